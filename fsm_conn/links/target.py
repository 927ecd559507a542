"""What a connection is to be made to: tells a command, an address and a maker of links apart, and checks each.

Everything that can be known to be wrong about a target is refused here, when the connection is made, and
without importing grpc or pyvider: a connection that is never opened costs neither.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from fsm_conn._util import workers
from fsm_conn._util.secret_values import without_secrets
from fsm_conn.links.base import Link
from fsm_conn.links.services import normalize_services

__all__ = ["LazyFactory", "LinkFactory", "Target", "resolve_target"]

LinkFactory = Callable[[], Link]
Target = Sequence[str | os.PathLike[str]] | str | LinkFactory

_SCHEME = re.compile(r"^(unix|unix-abstract|dns|ipv4|ipv6|vsock):\S+$")
_HOST_PORT = re.compile(r"^(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):([0-9]{1,5})$")


def resolve_target(
    target: Target,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    mtls: Any = None,
    services: Any = None,
    name: str | None = None,
) -> tuple[LinkFactory, str]:
    """A maker of links to `target`, and a name for it.

    Args:
        target: a command as a list of strings, an address, or a callable that makes a `Link`.
        env: for a command: environment variables on top of this process's own.
        cwd: for a command: the directory it starts in.
        mtls: for a command: None, True or False; for an address: `grpc.ChannelCredentials`.
        services: pb2 modules or service descriptors, for peers without reflection.
        name: what to call it; None for a name made from the target.

    Raises:
        TypeError, ValueError: the target, or an option for it, is wrong; the message says what to give instead.
    """
    if isinstance(target, str):
        _reject(target, "an address", env=env, cwd=cwd)
        options = {"credentials": _checked_credentials(mtls), "services": normalize_services(services)}
        return LazyFactory(
            "fsm_conn.links.grpc.endpoint", "EndpointLink", _checked_address(target), **options
        ), name or without_secrets(target)
    if callable(target):
        _reject("a callable", "a callable that makes links", env=env, cwd=cwd, mtls=mtls, services=services)
        return target, name or str(getattr(target, "__name__", type(target).__name__))
    command = _checked_command(target)
    if mtls not in (None, True, False):
        raise TypeError(
            f"mtls={type(mtls).__name__}: for a command give True, False, or None for wherever the plugin can"
        )
    name = name or _command_name(command)
    options = {
        "env": _checked_env(env),
        "cwd": _checked_cwd(cwd),
        "mtls": mtls,
        "services": normalize_services(services),
        "name": name,
    }
    return LazyFactory("fsm_conn.links.plugin.link", "PluginLink", command, **options), name


def _checked_credentials(credentials: Any) -> Any:
    if credentials is True:
        raise ValueError(
            "mtls=True needs keys that only you have: for an address give mtls=grpc.ssl_channel_credentials(...)"
        )
    if credentials not in (None, False) and not hasattr(credentials, "_credentials"):
        raise TypeError(f"mtls={type(credentials).__name__}: for an address give grpc.ChannelCredentials, or None")
    return credentials or None


class LazyFactory:
    """A maker of links whose module is imported when the first of them is needed.

    That takes some tenths of a second, so `load` does it on a thread of the package's own while the loop goes on.
    """

    __slots__ = ("_arguments", "_keywords", "_module", "_name")

    def __init__(self, module: str, name: str, /, *arguments: Any, **keywords: Any) -> None:
        self._module = module
        self._name = name
        self._arguments = arguments
        self._keywords = keywords

    def __call__(self) -> Link:
        """Make a link."""
        link: Link = getattr(_loaded(self._module), self._name)(*self._arguments, **self._keywords)
        return link

    async def load(self) -> None:
        """Import what the link needs, if that was not done yet."""
        if self._module not in _modules:
            await workers.run("spawner", _loaded, self._module)


_modules: dict[str, ModuleType] = {}


def _loaded(module: str) -> ModuleType:
    if module not in _modules:
        _import_grpc()
        _modules[module] = importlib.import_module(module)
    return _modules[module]


def _import_grpc() -> None:
    """Import grpc so that its core does not write notes of its own on stderr, unless somebody wants them.

    It reads GRPC_VERBOSITY when it is imported. A host that imports it earlier decides for itself.
    """
    if "grpc" in sys.modules or "GRPC_VERBOSITY" in os.environ:
        return
    os.environ["GRPC_VERBOSITY"] = "ERROR"
    try:
        import grpc.aio  # noqa: F401
    finally:
        del os.environ["GRPC_VERBOSITY"]


def _checked_address(address: str) -> str:
    if _SCHEME.match(address):
        return address
    match = _HOST_PORT.match(address)
    if match and 0 < int(match[2]) < 65536:
        return address
    shown = without_secrets(address)
    words = _words(shown)
    if match is None and words:
        raise ValueError(
            f"{shown!r} is not an address such as '127.0.0.1:50051' or 'unix:/run/x.sock'; "
            f"if it is a command, give it as a list: {words!r}"
        )
    raise ValueError(f"{shown!r} is not an address such as '127.0.0.1:50051' or 'unix:/run/x.sock'")


def _words(text: str) -> list[str]:
    import shlex  # only this error needs it

    try:
        return shlex.split(text)
    except ValueError:  # a quotation that does not end
        return text.split()


def _checked_command(command: Any) -> tuple[str, ...]:
    if isinstance(command, (bytes, Mapping, set, frozenset)) or not isinstance(command, Sequence):
        raise TypeError(
            f"{type(command).__name__} is no target: give a command as a list of strings, "
            "an address such as '127.0.0.1:50051', or a callable that makes a Link"
        )
    if not command:
        raise ValueError("the command is empty: give at least the program to run")
    words = []
    for index, word in enumerate(command):
        if not isinstance(word, (str, os.PathLike)):
            raise TypeError(f"command[{index}] is {word!r}: every word of a command must be a string or a path")
        words.append(os.fspath(word))
        if wrong := _what_no_system_takes(words[-1]):
            raise ValueError(f"command[{index}] contains {wrong}")
    if not words[0]:
        raise ValueError("command[0] is empty: give the program to run")
    return tuple(words)


def _what_no_system_takes(text: str | bytes) -> str | None:
    """What in a text cannot be handed to the operating system."""
    if isinstance(text, bytes):
        return "bytes: give text"
    if "\0" in text:
        return "a NUL character"
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        return f"{error.object[error.start]!r}, which is no character: it cannot be encoded"
    return None


def _checked_env(env: Mapping[str, str] | None) -> dict[str, str] | None:
    if env is None:
        return None
    if not isinstance(env, Mapping):
        raise TypeError(f"env={type(env).__name__}: give a mapping of names to values")
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env: {name!r} and its value must be strings, not {type(value).__name__}")
        if not name or "=" in name or _what_no_system_takes(name):
            raise ValueError(f"env: {name!r} cannot be the name of a variable")
        if wrong := _what_no_system_takes(value):
            raise ValueError(f"env: {name!r} has a value that contains {wrong}")
    return dict(env)


def _checked_cwd(cwd: str | os.PathLike[str] | None) -> str | None:
    if cwd is None:
        return None
    if not isinstance(cwd, (str, os.PathLike)):
        raise TypeError(f"cwd={cwd!r}: give a path")
    path = os.fspath(cwd)
    if wrong := _what_no_system_takes(path):
        raise ValueError(f"cwd={cwd!r} contains {wrong}")
    return path


def _reject(target: str, kind: str, **options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        names, shown = ", ".join(f"{name}=" for name in given), without_secrets(target)
        raise ValueError(f"{names} cannot be used with {kind}, only with a command ({shown!r})")


def _command_name(command: tuple[str, ...]) -> str:
    """The program, and for an interpreter its script. Never more: arguments may carry secrets."""
    program = os.path.basename(command[0])
    if re.match(r"(python|pypy)[\d.]*(\.exe)?$", program):
        rest = [word for word in command[1:3] if word != "-m"]
        if rest and not rest[0].startswith("-"):
            return os.path.basename(rest[0])
    return program
