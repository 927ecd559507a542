"""Writes a new project: a plugin and its host with tests, ready to run, from the files in `template`."""

from __future__ import annotations

import json
import keyword
import re
import secrets
import shlex
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from google.protobuf import descriptor_pb2

__all__ = ["requirement", "write_project"]

FILES = {
    "README.md": "readme",
    "host.py": "host",
    "pyproject.toml": "pyproject",
    "test_{module}.py": "test",
    "{module}.proto": "proto",
    "{module}_pb2.py": "pb2",
    "{module}_pb2.pyi": "pb2_pyi",
    "{module}_pb2_grpc.py": "pb2_grpc",
    "{module}_plugin.py": "plugin",
}
"""The files of a project, and the template of each."""

_FIELD = descriptor_pb2.FieldDescriptorProto
MESSAGES = {
    "GreetRequest": ("name", _FIELD.TYPE_STRING),
    "GreetReply": ("text", _FIELD.TYPE_STRING),
    "WatchRequest": ("seconds", _FIELD.TYPE_DOUBLE),
    "Tick": ("number", _FIELD.TYPE_INT64),
}
"""The messages of the template's protocol, each with its one field."""
_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
LONGEST = 40


def write_project(directory: Path) -> list[Path]:
    """Write a project into a new or empty directory. The project has the name of the directory.

    Raises:
        click.ClickException: the name is not usable, or the directory is not empty.
        OSError: the files cannot be written.
    """
    name = directory.resolve().name
    words = _words(name)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise click.ClickException(f"{str(directory)!r} is there already, and not empty.")
    directory.mkdir(parents=True, exist_ok=True)
    templates = resources.files("fsm_conn.cli") / "template"
    written = []
    for file, template in FILES.items():
        text = Template((templates / f"{template}.txt").read_text("utf-8")).substitute(words)
        path = directory / file.format(module=words["module"])
        path.write_text(text, "utf-8")
        written.append(path)
    return written


def _words(name: str) -> dict[str, str]:
    """The values for the placeholders of the templates."""
    module = name.replace("-", "_")
    service = "".join(part.capitalize() for part in module.split("_"))
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        raise click.ClickException(
            f"{name!r} will not do as a name: give lower-case letters, digits and single hyphens, such as 'my-plugin', "
            f"{LONGEST} characters at most."
        )
    if keyword.iskeyword(module) or keyword.iskeyword(service) or service in MESSAGES:
        raise click.ClickException(f"{name!r} means something in the project's code: choose another name.")
    cookie = f"{name}-{secrets.token_hex(4)}"
    descriptor = repr(_file(module, service).SerializeToString())
    return {
        "name": name,
        "module": module,
        "service": service,
        "cookie": cookie,
        "descriptor": descriptor,
        "requirement": requirement(),
    }


def requirement() -> str:
    """How pip is told to install this package from where it was installed: a directory, or the index (PEP 610)."""
    try:
        origin = json.loads(metadata.distribution("fsm_conn").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        origin = {}
    if "dir_info" not in origin:
        return "'fsm_conn[cli,testing]'"
    directory = unquote(urlsplit(origin["url"]).path)
    editable = "-e " if origin["dir_info"].get("editable") else ""
    return editable + shlex.quote(f"{directory}[cli,testing]")


def _file(module: str, service: str) -> Any:
    """The descriptor that the protocol buffer compiler makes of the template's protocol."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{module}.proto", package=module, syntax="proto3")
    for message, (field, kind) in MESSAGES.items():
        made = file.message_type.add(name=message)
        made.field.add(name=field, json_name=field, number=1, type=kind, label=_FIELD.LABEL_OPTIONAL)
    methods = file.service.add(name=service).method
    for method, request, reply, streams in (
        ("Greet", "GreetRequest", "GreetReply", False),
        ("Watch", "WatchRequest", "Tick", True),
    ):
        types = {"input_type": f".{module}.{request}", "output_type": f".{module}.{reply}"}
        made_method = methods.add(name=method, **types)
        if streams:
            made_method.server_streaming = True
    return file
