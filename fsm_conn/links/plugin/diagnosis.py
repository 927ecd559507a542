"""Says why a plugin did not start, or went away, in words that help.

Rules that hold here:

- The end of the process is a better reason than any other symptom, so every wait for the plugin ends with the process.
- The cause goes before the symptom: a plugin that refuses its cookie says so, and then exits like any other.
- Every error carries the evidence, and no secret.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection
from typing import Any

from fsm_conn.links.errors import BadCookieError, HandshakeError, LinkError, LinkLostError, PluginExitedError
from fsm_conn.links.plugin.handshake import Handshake, parse_handshake
from fsm_conn.links.plugin.socket_file import what_is_wrong
from fsm_conn.links.process.directory import is_ours
from fsm_conn.links.process.output import quoted
from fsm_conn.links.process.process import PluginProcess, describe_status

__all__ = ["exit_error", "loss", "read_handshake", "unless_exited"]

BEFORE = "before its handshake"
SETTLE = 0.25
"""Seconds to wait for the end of a process that did something odd, because its end would explain that."""

# The words of pyvider's server (its `handshake/core.py`), and of go-plugin's (its `server.go`).
_COOKIE_REFUSED = (
    "magic cookie mismatch",
    "magic cookie not provided",
    "this binary is a plugin",
    "no magic cookie",
    "misconfigured serveconfig",
)
_NOT_FOUND = (126, 127)
"""The exit statuses with which a shell, or `env`, says that it could not execute a command, or not find it."""
# The words of interpreters that do not find their script or module.
_NO_PROGRAM = re.compile(r"can't open file '|: No module named |^Error: Cannot find module '", re.MULTILINE)


async def unless_exited(process: PluginProcess, wanted: asyncio.Future[Any], when: str) -> None:
    """Wait for `wanted`, but only while the process lives. Neither future is cancelled.

    Raises:
        LinkError: the process ended, before `wanted` was done or at the same time.
    """
    await asyncio.wait((wanted, process.exited), return_when=asyncio.FIRST_COMPLETED)
    if process.exited.done():
        raise exit_error(process, when)


async def read_handshake(
    process: PluginProcess, offered: Collection[int] = (), directories: Collection[str] = ()
) -> Handshake:
    """Wait for the process's handshake line and read it.

    Args:
        process: a plugin that was just started.
        offered: see `parse_handshake`.
        directories: where a socket that it announces may be, besides its private directory.

    Raises:
        LinkError: it printed something else, announced a socket that is not its own, or ended.
    """
    await asyncio.wait((process.first_line, process.exited), return_when=asyncio.FIRST_COMPLETED)
    try:
        handshake = _checked(process, process.first_line.result(), offered, directories)
    except HandshakeError as error:
        await asyncio.wait((process.exited,), timeout=SETTLE)
        raise _explained(error, process) from None
    if process.exited.done():
        raise exit_error(process, "right after its handshake")
    return handshake


def _checked(process: PluginProcess, line: bytes, offered: Collection[int], directories: Collection[str]) -> Handshake:
    handshake = parse_handshake(line, offered=offered, show=process.redact)
    wrong = ""
    if handshake.network == "unix":
        wrong = what_is_wrong(handshake.address, (process.directory, *directories), process.user)
    if handshake.network == "unix" and not wrong and os.path.isdir(process.directory):
        wrong = "" if is_ours(process.directory) else "is in a directory that somebody has put in the place of its own"
    if wrong:
        shown = quoted(line, process.redact)
        message = f"the plugin's handshake line {shown} announces a socket that {wrong}"
        raise HandshakeError(message, line=shown, permanent=True)
    return handshake


def exit_error(process: PluginProcess, when: str) -> LinkError:
    """The error for a process that has ended; `when` says at which point, such as `before its handshake`."""
    evidence = process.diagnostics()
    if _refused_cookie(evidence):
        return BadCookieError(
            "the plugin refused this host's magic cookie: give the one that it expects, "
            'env={"PLUGIN_MAGIC_COOKIE": ...} unless the plugin names another variable',
            evidence=evidence,
        )
    how = f"the plugin's process {process.pid} {describe_status(process.returncode)} {when}".rstrip()
    last, before = process.last_words()
    error = PluginExitedError(f"{how}: {last}" if last else how, evidence=before, returncode=process.returncode)
    if when == BEFORE and (process.returncode in _NOT_FOUND or _NO_PROGRAM.search(last)):
        error.permanent = True
    return error


def loss(process: PluginProcess, symptom: Exception) -> Exception:
    """Why an open link went away: its process ended, or else the symptom with what is known of the process."""
    if process.exited.done():
        return exit_error(process, "")
    return LinkLostError(
        f"{symptom}; the plugin's process {process.pid} was still there", evidence=process.diagnostics()
    )


def _refused_cookie(evidence: str) -> bool:
    said = evidence.lower()
    return any(words in said for words in _COOKIE_REFUSED)


def _explained(error: HandshakeError, process: PluginProcess) -> LinkError:
    """The same error with the evidence; or a better one, if the process has ended in the meantime."""
    if not process.exited.done():
        return type(error)(error.message, evidence=process.diagnostics(), line=error.line, permanent=error.permanent)
    ended = exit_error(process, BEFORE)
    if isinstance(ended, BadCookieError) or not error.line:
        return ended
    message = f"{error.message}; then it {describe_status(process.returncode)}"
    return type(error)(message, evidence=process.diagnostics(), line=error.line, permanent=error.permanent)
