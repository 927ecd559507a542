"""Tells a service manager that a server is ready, or that it stops: systemd's `sd_notify`, which containers use, too.

The protocol is a datagram to the socket that the environment variable NOTIFY_SOCKET names (sd_notify(3)). Without the
variable, nobody is told. A manager that does not listen is no reason to fail.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

__all__ = ["notify"]


def notify(*lines: str) -> bool:
    """Send lines such as `READY=1`, `STOPPING=1`, `STATUS=...`; return whether anybody received them."""
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where.startswith(("/", "@")) or len(where) < 2:
        return False
    address = "\0" + where[1:] if where.startswith("@") else where
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
        telling.setblocking(False)
        telling.sendto("\n".join(lines).encode(), address)
        return True
    return False
