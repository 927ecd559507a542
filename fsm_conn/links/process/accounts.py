"""The account that a plugin runs as: another user, only that user's groups, and a directory that the user may write to.

Rules that hold here:

- The plugin keeps none of this process's own rights: not its group, nor its supplementary groups.
- A name that this machine does not know is an error before anything is started.
"""

from __future__ import annotations

import grp
import os
import pwd
from contextlib import suppress
from typing import Any

import attrs

from fsm_conn.links.errors import CommandNotExecutableError

__all__ = ["Account", "account"]

INNER = "p"
"""The directory within the private one that belongs to the plugin's user."""


@attrs.frozen
class Account:
    """The user and the groups that a plugin is to have."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    def arguments(self) -> dict[str, Any]:
        """The arguments for `subprocess.Popen`."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}

    def room_in(self, private: str) -> str:
        """Make the plugin's own directory within a private one of ours. Others may pass through ours, and no more."""
        inner = os.path.join(private, INNER)
        os.mkdir(inner, 0o700)
        os.chown(inner, self.uid, self.gid)
        os.chmod(private, 0o711)  # noqa: S103 - its name is secret, and nothing else is in it
        return inner


def account(user: str | int | None, group: str | int | None) -> Account | None:
    """Find a user and a group; None: neither was given.

    Raises:
        CommandNotExecutableError: this machine knows no such user, or no such group; or the user has no group.
    """
    if user is None and group is None:
        return None
    entry = _entry(os.geteuid() if user is None else user)
    uid = entry.pw_uid if entry is not None else user
    gid = _gid(group) if group is not None else entry.pw_gid if entry is not None else None
    if not isinstance(uid, int) or gid is None:
        known = (
            "is no name of a user on this machine" if isinstance(user, str) else "has no group of its own: give group="
        )
        raise CommandNotExecutableError(f"the plugin cannot run as user={user!r}, which {known}")
    return Account(uid, gid, tuple(os.getgrouplist(entry.pw_name, gid)) if entry is not None else (gid,))


def _entry(user: str | int) -> pwd.struct_passwd | None:
    with suppress(KeyError):
        return pwd.getpwnam(user) if isinstance(user, str) else pwd.getpwuid(user)
    return None


def _gid(group: str | int) -> int:
    if isinstance(group, int):
        return group
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise CommandNotExecutableError(
            f"the plugin cannot run as group={group!r}, which is no name of a group on this machine"
        ) from None
