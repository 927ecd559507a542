"""What a process forgets that was forked from one that knew it. Systems without fork need nothing of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

__all__ = ["after_fork"]


def after_fork(forget: Callable[[], None]) -> None:
    """Have `forget` called in every child that this process forks from now on."""
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=forget)
