"""A port that is known before anybody listens there."""

from __future__ import annotations

import random
import socket

__all__ = ["free_port"]

LOWEST, HIGHEST = 10_000, 30_000
"""Below what systems give to whoever asks for any port (Linux from 32768, macOS from 49152): nobody gets it meanwhile."""


def free_port() -> int:
    """A port of loopback on which nobody listens, and that the system gives to nobody."""
    chance = random.SystemRandom()  # other workers have the same seed
    while True:
        port = chance.randint(LOWEST, HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
