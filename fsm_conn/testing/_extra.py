"""The libraries that only testing needs, with an error that names the extra when one is missing."""

from __future__ import annotations

from functools import partial

from fsm_conn._util import extras

__all__ = ["needed"]

needed = partial(extras.needed, extra="testing", purpose="fsm_conn.testing")
