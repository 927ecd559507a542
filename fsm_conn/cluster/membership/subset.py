"""Which members a client connects to, when it is not to connect to all of them.

By rendezvous hashing (Thaler and Ravishankar, 1998): every client ranks all members by a hash of its own name and the
member's, and takes the first ones. Clients agree on nothing, members get about the same number of clients each, and one
that comes or goes changes the choice of only those clients that rank it high.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

__all__ = ["chosen", "ranked"]


def ranked(client: str, names: Iterable[str]) -> list[str]:
    """The members, the one first that this client likes best."""
    return sorted(names, key=lambda name: hashlib.blake2b(f"{client}\0{name}".encode(), digest_size=8).digest())


def chosen(client: str, names: Iterable[str], size: int | None, is_out: Callable[[str], bool]) -> list[str]:
    """The first `size` of them that are not out of service, and those before them that are, to be tried again.

    Args:
        client: what the client is called.
        names: all members.
        size: how many are to serve; None: all.
        is_out: whether a member is known not to serve.
    """
    found, serving = [], 0
    for name in ranked(client, names):
        if size is not None and serving >= size:
            break
        found.append(name)
        serving += not is_out(name)
    return found
