"""Whether a socket that a plugin has announced is the plugin's own.

A plugin chooses where its host connects to. It gets a private directory for its socket, which nobody else may enter.
A path that leads elsewhere may lead to a service that this host was never meant to talk to, or to a stranger's.

Rules that hold here:

- A socket must be where the plugin was told to put it: in its private directory, or in one that the user named instead.
- No link is followed out of there, and no link is accepted as a socket.
- A socket that is not there yet is not wrong: the plugin may make it a moment later, or else it cannot be reached.

A malicious plugin may replace its socket right after the check. The check does not protect against a program that runs
as the same user, which could just as well forward what it is sent.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

__all__ = ["what_is_wrong"]

ROOT = 0
"""Sockets of root's are accepted: root can reach us without one."""


def what_is_wrong(path: str, directories: Collection[str], user: int | None = None) -> str:
    """What is wrong with a socket, in words that continue `a socket that`; empty when nothing is.

    Args:
        path: an absolute path.
        directories: where it may be.
        user: the number of the user that the plugin runs as; None: this one.
    """
    parent = os.path.realpath(os.path.dirname(path))
    if not any(_is_in(parent, os.path.realpath(directory)) for directory in directories):
        return (
            "is outside of the directory that the plugin was given: have it listen in the one that "
            "PLUGIN_UNIX_SOCKET_DIR and TMPDIR name, or name its own with env={'PLUGIN_UNIX_SOCKET_DIR': ...}"
        )
    try:
        status = os.lstat(path)
    except OSError:
        return ""
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link: have the plugin announce the socket itself"
    if not stat.S_ISSOCK(status.st_mode):
        return "is no socket: have the plugin listen before it prints its handshake line"
    # A plugin that runs as another user may have linked root's socket into its directory, and never owns one as root.
    if status.st_uid not in ((os.geteuid(), ROOT) if user is None else (user,)):
        return f"belongs to another user, of number {status.st_uid}: have the plugin make its own"
    return ""


def _is_in(path: str, directory: str) -> bool:
    return os.path.commonpath((path, directory)) == directory
