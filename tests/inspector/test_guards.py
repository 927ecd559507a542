"""What is told of guards, and that it is what then happens."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fsm_conn import State, StateMachine, Transition
from fsm_conn.inspector.guards import verdicts


class Order(StateMachine):
    """Guards of every kind."""

    states = (State("new", initial=True), State("paid"), State("odd"))
    transitions = (
        Transition("pay", "new", "paid", guards=("may_pay", "is_open")),
        Transition("pay", "new", "odd", guards=("is_odd",)),
        Transition("pay", "new", None),
        Transition("charge", "new", "paid", guards=("enough",)),
        Transition("charge", "new", None),
        Transition("check", "new", "paid", guards=("breaks",)),
        Transition("check", "new", None),
        Transition("note", "new", "paid", effects=("write",)),
        Transition("refund", "paid", "new"),
    )

    def __init__(self, pays: bool = True, opens: bool = True, odd: bool = False) -> None:
        self.pays, self.opens, self.odd = pays, opens, odd

    def may_pay(self) -> bool:
        return self.pays

    def is_open(self, reason: BaseException | None) -> bool:
        return self.opens

    def is_odd(self, _reason: BaseException | None, extra: int = 0) -> bool:
        return self.odd

    def enough(self, amount: int) -> bool:
        return amount > 5

    def breaks(self) -> bool:
        raise OSError("no answer")

    def write(self, text: str) -> None: ...


def told(order: Order) -> dict[str, Any]:
    return {each["trigger"]: each for each in verdicts(order)}


@given(pays=st.booleans(), opens=st.booleans(), odd=st.booleans())
def test_the_row_that_is_told_is_the_row_that_is_taken(pays: bool, opens: bool, odd: bool) -> None:
    """Always, and asking changes nothing."""
    order = Order(pays, opens, odd)
    place = told(order)["pay"]["taken"]
    assert (order.state, order.visit, order.last_record) == ("new", 0, None)
    order.fire("pay")
    dest = Order.transitions[place].dest
    assert order.state == ("new" if dest is None else dest)
    says = [[guard["says"] for guard in row["guards"]] for row in told(Order(pays, opens, odd))["pay"]["rows"]]
    assert says == [[pays, opens], [odd], []]


def test_what_needs_data_cannot_be_told_before() -> None:
    """It says which, of guards and of effects."""
    found = told(Order())
    assert found["charge"]["taken"] is None
    assert found["charge"]["rows"][0]["guards"] == [{"guard": "enough", "says": None, "why": "needs amount"}]
    assert found["charge"]["needs"] == ["amount"]
    assert (found["note"]["taken"], found["note"]["needs"]) == (7, ["text"])


def test_a_guard_that_raises_is_told_with_its_error() -> None:
    """And decides nothing."""
    found = told(Order())["check"]
    assert found["taken"] is None
    assert found["rows"][0]["guards"][0]["why"] == "raises OSError: no answer"


def test_only_what_the_state_handles_is_told() -> None:
    """The others would be refused."""
    order = Order()
    order.fire("pay")
    assert list(told(order)) == ["refund"]
