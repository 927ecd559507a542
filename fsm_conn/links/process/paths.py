"""Paths as a plugin would read them: relative ones from the directory that it starts in.

Rule that holds here: the working directory of this process may be gone, removed or unmounted. Code that does not need
it, such as for an absolute path, never asks for it. Code that needs it gets an error in words, and no retry.
"""

from __future__ import annotations

import os

from fsm_conn.links.errors import CommandNotExecutableError

__all__ = ["absolute"]


def absolute(path: str, base: str | None, what: str) -> str:
    """`path` as an absolute path.

    Args:
        path: any path.
        base: the directory for a relative path, absolute; None: the working directory of this process.
        what: what the path is, for the error, such as `command`.

    Raises:
        CommandNotExecutableError: it is relative to the working directory of this process, which no longer exists.
    """
    if os.path.isabs(path):
        return path
    try:
        return os.path.join(base or os.getcwd(), path)
    except OSError:
        raise CommandNotExecutableError(
            f"the plugin's {what} {path!r} is relative to the working directory of this process, which was removed: "
            "give an absolute path, or change to a directory that exists"
        ) from None
