"""Replaces the remedies that the library's errors name by the options of a command that have the same effect.

Errors of the library name its own arguments, which a user of the command line does not have.
"""

from __future__ import annotations

import re

__all__ = ["OPTIONS", "in_options"]

OPTIONS = {
    "start_timeout= gives it longer": "--start-timeout gives it longer",
    'env={"PLUGIN_MAGIC_COOKIE": ...}': "--env PLUGIN_MAGIC_COOKIE=...",
    "env={'PLUGIN_UNIX_SOCKET_DIR': ...}": "--env PLUGIN_UNIX_SOCKET_DIR=...",
    "declare its services with services=": "declare its services with --services",
    "Declare them with services=": "Declare them with --services",
    "by Plugin(versions=...) or PLUGIN_PROTOCOL_VERSIONS": "by --version",
    "mtls=True asks for one": "--mtls asks for one",
    "or leave mtls= away": "or leave --mtls away",
    "give tls=TlsFiles(certificate=..., key=..., authorities=...), so": "give --cert, --key and --cacert, so",
    "or tls= and token=; or listen": "or --cert, --key and a token; or listen",
    "give tls=TlsFiles(certificate=..., key=...) as well": "give --cert and --key as well",
}
"""The library's remedies, and the command's replacement for each."""

_TLS = re.compile(r"and Endpoint\('[^']*', credentials=Tls\(\)\) for TLS")


def in_options(text: str) -> str:
    """An error of the library, with a command's options instead of arguments. Only whole remedies are replaced, because
    the rest may be a plugin's own words.
    """
    for said, instead in OPTIONS.items():
        text = text.replace(said, instead)
    return _TLS.sub("and --tls for TLS", text)
