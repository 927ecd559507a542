"""The errors for callers that are not served."""

from __future__ import annotations

from collections.abc import Iterable

from fsm_conn._util.text import named, said
from fsm_conn.pool.errors import PoolClosed, PoolTimeoutError, PoolUnavailableError
from fsm_conn.pool.table import PoolState

__all__ = ["closed", "closed_for", "timed_out", "unavailable"]


def closed(pool: object, state: str, *, was_forked: bool) -> PoolClosed:
    """The error that says that a pool is closed, and what to do."""
    if was_forked:
        return PoolClosed(f"{pool!r} belongs to the parent of this process; make a pool of its own here")
    if state == PoolState.CLOSED:
        return PoolClosed(f"{pool!r} is closed: 'await pool.initialize()' first, or use 'async with'")
    return PoolClosed(f"{pool!r} is being closed and serves no more callers")


def closed_for(pool: object, reason: BaseException | None) -> Exception:
    """The error that tells one of several callers why the pool was closed. Each caller gets an error of its own."""
    if isinstance(reason, PoolUnavailableError):
        return unavailable(f"{pool!r} could not be opened", reason.causes)
    if reason is None:
        return PoolClosed(f"{pool!r} is being closed and serves no more callers")
    error = PoolClosed(f"{pool!r} was closed by an error: {named(reason)}")
    error.__cause__ = reason
    return error


def timed_out(pool: object, seconds: float, cause: BaseException | None) -> PoolTimeoutError:
    """The error for a caller whose time is up. `cause`: the last error of a connection that is not in service."""
    why = "" if cause is None else f"; the last error was: {said(cause)}"
    return PoolTimeoutError(f"{pool!r}: no connection became free within {seconds:g} s{why}")


def unavailable(what: str, causes: Iterable[BaseException]) -> PoolUnavailableError:
    """An error with its causes, without duplicates."""
    causes = tuple(causes)
    told = "; ".join(dict.fromkeys(map(said, causes))) or "none is in service"
    error = PoolUnavailableError(f"{what}: {told}", causes=causes)
    error.__cause__ = causes[0] if causes else None
    return error
