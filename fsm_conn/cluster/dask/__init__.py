"""Dask as the engine: its workers say where plugins can be, and plugins are called directly, not through it.

Needs the extra `dask`: `pip install 'fsm_conn[dask]'`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsm_conn._util.lazy import lazily

if TYPE_CHECKING:
    from fsm_conn.cluster.dask.local import LocalPool as LocalPool
    from fsm_conn.cluster.dask.local import local_pool as local_pool
    from fsm_conn.cluster.dask.members import DaskMembers as DaskMembers

_HOMES = {
    "fsm_conn.cluster.dask.local": "LocalPool local_pool",
    "fsm_conn.cluster.dask.members": "DaskMembers",
}

__getattr__, __dir__, __all__ = lazily(__name__, _HOMES)
