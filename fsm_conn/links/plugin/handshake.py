"""The one line that a go-plugin plugin prints first, read by a host that does not trust the plugin.

The line is `CORE|APP|network|address|protocol|certificate[|can multiplex]`, as go-plugin's `server.go` prints it.
The line decides where this host connects to and which certificate it believes, so nothing in it is taken on faith.

Rules that hold here:

- The parser is pure: bytes in, a `Handshake` or an error out. Any bytes give one of the two, in bounded time.
- Every error quotes the offending line, shortened and escaped, and says what is wrong with it and what to do.
- An address is on this machine: an absolute path, or a loopback address with its port.
- A plugin that speaks another version or protocol raises `IncompatibleProtocolError`, anything else a
  `HandshakeError`. Both are permanent: a program prints the same line next time.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Collection
from typing import NoReturn
from urllib.parse import quote

import attrs

from fsm_conn.links.errors import HandshakeError, IncompatibleProtocolError
from fsm_conn.links.process.output import LONGEST_LINE, as_it_is, quoted

__all__ = ["CORE_VERSION", "Address", "Handshake", "offered_versions", "parse_handshake", "wrong_address"]

CORE_VERSION = 1
"""The version of the handshake itself (`CoreProtocolVersion` in go-plugin's `client.go`)."""
LONGEST_SOCKET_PATH = 107
"""Bytes: `sun_path` of Linux's `sockaddr_un`, less its closing NUL."""

_NUMBER = re.compile(r"[0-9]{1,9}")
_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<v4>[0-9.]{7,15})|(?P<name>localhost)):(?P<port>[0-9]{1,5})"
)


@attrs.frozen(kw_only=True)
class Address:
    """Where a plugin listens."""

    network: str
    """`unix` or `tcp`."""
    address: str
    """An absolute path, or `host:port`."""

    @property
    def target(self) -> str:
        """The address as a gRPC target, quoted so that no character of it changes the target's meaning."""
        if self.network == "unix":
            return "unix:" + quote(self.address)
        kind = "ipv6" if self.address.startswith("[") else "ipv4" if self.address[0].isdigit() else "dns"
        return f"{kind}:{self.address}"


@attrs.frozen(kw_only=True)
class Handshake(Address):
    """What a plugin said about itself."""

    app_version: int
    """The version of the application's protocol that the plugin chose."""
    certificate: str = attrs.field(default="", repr=False)
    """The plugin's certificate, DER in padded base64; empty when it serves without TLS."""
    may_multiplex: bool = False
    """Whether it can multiplex its broker. It does so only if `PLUGIN_MULTIPLEX_GRPC` asks for it."""


@attrs.frozen
class _Refusal:
    """Raises errors that quote one line and its fields."""

    line: str
    show: Callable[[str], str]

    def garbage(self, wrong: str, remedy: str = "") -> NoReturn:
        raise HandshakeError(self._text(wrong, remedy), line=self.line, permanent=True)

    def incompatible(self, wrong: str, remedy: str) -> NoReturn:
        raise IncompatibleProtocolError(self._text(wrong, remedy), line=self.line)

    def _text(self, wrong: str, remedy: str) -> str:
        return f"the plugin's handshake line {self.line} {wrong}" + (f": {remedy}" if remedy else "")

    def field(self, text: str) -> str:
        """One field of the line, quoted by itself."""
        return quoted(text.encode("ascii", "surrogateescape"), self.show, 40)

    def number(self, text: str) -> str:
        """A field that is a number, without leading zeros, which mean nothing."""
        return self.show(str(int(text)))


def offered_versions(text: str) -> frozenset[int]:
    """The versions in the value of `PLUGIN_PROTOCOL_VERSIONS`, such as `"5,6"`. Empty: none was asked for."""
    return frozenset(int(part) for part in map(str.strip, text.split(",")) if _NUMBER.fullmatch(part))


def parse_handshake(
    line: bytes | str, *, offered: Collection[int] = (), show: Callable[[str], str] = as_it_is
) -> Handshake:
    """Read a handshake line.

    Args:
        line: the line, with or without its end.
        offered: the application protocol versions that this host offered; empty when it offered none in particular.
        show: takes secrets out of what an error quotes.

    Raises:
        IncompatibleProtocolError: the plugin speaks another protocol, or another version.
        HandshakeError: anything else that is wrong with the line.
    """
    raw = line.encode("utf-8", "surrogateescape") if isinstance(line, str) else line
    raw = raw.rstrip(b"\r\n")
    refuse = _Refusal(quoted(raw, show), show)
    fields = _fields(raw, refuse)
    _check_core(fields[0], refuse)
    _check_protocol(fields, refuse)
    app_version = _app_version(fields[1], offered, refuse)
    _check_address(fields[2], fields[3], refuse)
    return Handshake(
        app_version=app_version,
        network=fields[2],
        address=fields[3],
        certificate=_certificate(fields[5] if len(fields) > 5 else "", refuse),
        may_multiplex=len(fields) > 6 and fields[6].strip().lower() not in ("", "0", "f", "false"),
    )


def _fields(raw: bytes, refuse: _Refusal) -> list[str]:
    if len(raw) > LONGEST_LINE:
        refuse.garbage(f"is longer than {LONGEST_LINE} bytes")
    text = raw.decode("ascii", "surrogateescape") if b"|" in raw else ""
    fields = text.strip().split("|")
    if not 4 <= len(fields) <= 7 or not _NUMBER.fullmatch(fields[0]):
        refuse.garbage(
            "is not one",
            "a plugin must print nothing on stdout before its handshake line, "
            "CORE|APP|network|address|protocol|certificate; is this command a go-plugin plugin?",
        )
    return fields


def _check_core(version: str, refuse: _Refusal) -> None:
    if int(version) != CORE_VERSION:
        refuse.incompatible(
            f"has core version {refuse.number(version)}, and this host speaks {CORE_VERSION}",
            "build the plugin against a go-plugin whose core version is the same",
        )


def _check_protocol(fields: list[str], refuse: _Refusal) -> None:
    protocol = fields[4] if len(fields) > 4 else "netrpc"
    if protocol == "netrpc":
        refuse.incompatible(
            "announces net/rpc",
            "set GRPCServer in the plugin's ServeConfig, so that it serves gRPC; one that serves gRPC in some of its "
            "versions alone must be offered one of these, by Plugin(versions=...) or PLUGIN_PROTOCOL_VERSIONS",
        )
    if protocol != "grpc":
        refuse.garbage(f"announces the protocol {refuse.field(protocol)}", "only grpc is known")


def _app_version(text: str, offered: Collection[int], refuse: _Refusal) -> int:
    if not _NUMBER.fullmatch(text):
        refuse.garbage(f"has {refuse.field(text)} where the application protocol's version belongs")
    version = int(text)
    if offered and version not in offered:
        wanted = ", ".join(map(str, sorted(offered)))
        refuse.incompatible(
            f"chose application protocol version {refuse.number(text)}, and this host offered {wanted}",
            "PLUGIN_PROTOCOL_VERSIONS says what is offered",
        )
    return version


def _check_address(network: str, address: str, refuse: _Refusal) -> None:
    wrong = wrong_address(network, address, refuse.field)
    if wrong is not None:
        refuse.garbage(*wrong)


def wrong_address(network: str, address: str, show: Callable[[str], str] = repr) -> tuple[str, str] | None:
    """What is wrong with an address that a plugin has announced, and the remedy; None: nothing.

    The words continue the name of what contained the address, such as `the plugin's handshake line`.

    Args:
        network: what the plugin announced as the network.
        address: what the plugin announced as the address.
        show: makes the network safe to show.
    """
    if network == "unix":
        return _wrong_socket_path(address)
    if network == "tcp":
        return _wrong_host_and_port(address)
    return f"names the network {show(network)}", "only unix and tcp are known"


def _wrong_socket_path(path: str) -> tuple[str, str] | None:
    if not path.startswith("/") or not path.isprintable() or not path.isascii():
        return "has no absolute socket path in printable ASCII", ""
    if len(path) > LONGEST_SOCKET_PATH:
        remedy = f"{LONGEST_SOCKET_PATH} is the limit; shorten TMPDIR"
        return f"has a socket path of {len(path)} bytes", remedy
    return None


def _wrong_host_and_port(address: str) -> tuple[str, str] | None:
    match = _HOST_AND_PORT.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65536:
        return "has no address of the form 127.0.0.1:port", ""
    if not match["name"] and not _is_loopback(match["v6"] or match["v4"]):
        return "has an address that is not on this machine", "a plugin must listen on a loopback address"
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _certificate(text: str, refuse: _Refusal) -> str:
    """The certificate with its padding, which go-plugin omits."""
    padded = text + "=" * (-len(text) % 4)
    try:
        base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        refuse.garbage("has a certificate that is not base64")
    return padded
