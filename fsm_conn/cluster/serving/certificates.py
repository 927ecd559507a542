"""The certificates of a server, read again when their files have changed: short-lived ones are replaced all the time.

Connections that exist stay as they are. Files that cannot be used, as in the middle of a replacement, change nothing.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from fsm_conn.cluster.errors import ServeError
from fsm_conn.cluster.recipe import TlsFiles
from fsm_conn.links.grpc.channel import why_invalid

__all__ = ["Renewed", "tls_context"]

_log = logging.getLogger("fsm_conn.serve")
T = TypeVar("T")
Stamp = tuple[tuple[int, int, int] | None, ...]


class Renewed(Generic[T]):
    """A value that is made from the files of certificates, and made anew when they have changed.

    Args:
        tls: the files.
        make: makes the value.

    Raises:
        ServeError: the files cannot be used.
    """

    def __init__(self, tls: TlsFiles, make: Callable[[], T]) -> None:
        self._paths = [path for path in (tls.certificate, tls.key, tls.authorities) if path is not None]
        self._make = make
        self._stamp = self._look()
        self._value = make()

    def value(self) -> T:
        """The value by the files of now. If they cannot be used, it is the last one, and that is logged once."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._value = self._make()
            except ServeError as error:
                _log.warning("the certificates in use stay: %s", error)
        return self._value

    def _look(self) -> Stamp:
        return tuple(_stamp(path) for path in self._paths)


def tls_context(tls: TlsFiles) -> Callable[[], ssl.SSLContext]:
    """A function that returns the TLS context for the next connection. Raises as `TlsFiles.server_context`.

    The log says so when the certificate is not valid now: all that clients would see is a handshake that fails.
    """

    def made() -> ssl.SSLContext:
        context = tls.server_context()
        if fault := why_invalid(Path(tls.certificate).read_bytes()):
            _log.warning("clients will refuse this server: its certificate %s %s", tls.certificate, fault)
        return context

    return Renewed(tls, made).value


def _stamp(path: str) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None: it cannot be found."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
