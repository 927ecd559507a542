"""Shows the state machines of a running process in a browser.

    from fsm_conn.inspector import Inspector

    async with Inspector(port=8765) as inspector:
        inspector.watch_all()
        ...

It only observes and changes nothing, unless `allow` permits it. It costs nothing until it is used, and keeps no machine
alive. A slow or closed browser delays nobody. It needs the extra `inspector`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_conn._util.lazy import lazily

if TYPE_CHECKING:
    from fsm_conn.inspector.inspector import Inspector as Inspector
    from fsm_conn.inspector.replay import Replay as Replay
    from fsm_conn.inspector.walk import Walk as Walk

_HOMES = {
    "fsm_conn.inspector.inspector": "Inspector",
    "fsm_conn.inspector.replay": "Replay",
    "fsm_conn.inspector.walk": "Walk",
}

__getattr__, __dir__, __all__ = lazily(__name__, _HOMES)
