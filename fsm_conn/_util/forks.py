"""Clears state in forked processes. Systems without fork do not need it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

__all__ = ["after_fork"]


def after_fork(forget: Callable[[], None]) -> None:
    """Call `forget` in every child that this process forks from now on."""
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=forget)
