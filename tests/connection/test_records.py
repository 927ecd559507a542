"""A record of a connection shows all that it holds."""

from __future__ import annotations

from fsm_conn.connection.records import ConnectionRecord


def test_it_shows_its_fields() -> None:
    """Also the one that a machine's record does not have."""
    record = ConnectionRecord("lost", "connected", "reconnecting", False, None, 0.5, 2.0, {}, 3)
    assert repr(record) == (
        "ConnectionRecord(trigger='lost', source='connected', dest='reconnecting', internal=False, reason=None, "
        "dwell=0.5, at=2.0, data={}, attempt=3)"
    )
