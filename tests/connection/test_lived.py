"""Lives that the harness found, in which something was wrong."""

from __future__ import annotations

from fsm_conn import RetryPolicy
from fsm_conn.testing import Life


def test_a_call_on_a_link_that_is_known_to_be_lost_waits_for_nothing() -> None:
    """The state was `failed` already, and its activity had not yet given the link back: the caller waited for a second."""
    life = Life(retry=RetryPolicy(max_attempts=1, initial_delay=1.0, jitter="none"))
    life.connect()
    life.call_patiently()
    life.attend("call")
    life.attend("close")
    life.answer("open", "half")
    assert life.users == []
    life.end()
