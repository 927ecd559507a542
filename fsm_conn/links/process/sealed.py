"""Executes a program only if it is the expected one, with no moment between the check and the start.

Rules that hold here:

- The bytes that are compared are the bytes that are executed: a copy in memory, sealed before it is compared, so that
  nobody can change it. A file could be replaced, or written to, after the check.
- Only the program itself is compared (as by go-plugin's `SecureConfig`): not what an interpreter reads, nor libraries.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from fsm_conn.links.errors import ChecksumError

__all__ = ["Program", "copy_of"]

CHUNK = 1024 * 1024
_SEALS = ("F_SEAL_SEAL", "F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_WRITE")


@attrs.frozen
class Program:
    """What to execute."""

    path: str
    descriptors: tuple[int, ...] = ()
    """Open files that the path needs, which the program inherits."""


@contextmanager
def copy_of(path: str, digest: str | None) -> Iterator[Program]:
    """The program at `path`, for as long as its start takes; a sealed copy if a digest is given.

    Raises:
        ChecksumError: it is not the expected program; or this system has no memory that can be sealed.
    """
    if digest is None:
        yield Program(path)
        return
    if not hasattr(os, "memfd_create") or not hasattr(fcntl, "F_ADD_SEALS"):
        raise ChecksumError(f"sha256= needs Linux, to execute exactly what was compared: {path} was not started")
    copy = os.memfd_create("plugin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(path, "rb") as file, open(copy, "wb", closefd=False) as memory:
            shutil.copyfileobj(file, memory, CHUNK)
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _all_seals())
        found = _digest_of(copy)
        if found != digest:
            raise ChecksumError(
                f"the plugin's command {path} has the SHA-256 digest {found}, and sha256={digest} is asked for"
            )
        yield Program(f"/proc/self/fd/{copy}", (copy,))
    finally:
        os.close(copy)


def _all_seals() -> int:
    seals = 0
    for name in _SEALS:
        seals |= getattr(fcntl, name)
    return seals


def _digest_of(descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb", closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
