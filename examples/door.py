"""A machine without an event loop: a door that is locked with a code, and counts how often somebody came in.

python examples/door.py
"""

from __future__ import annotations

from typing import ClassVar

from fsm_conn import IllegalTriggerError, State, StateMachine, Transition


class Door(StateMachine):
    """Opened by the right code only, and closed for good after three wrong ones."""

    states = (
        State("locked", initial=True),
        State("closed"),
        State("open", entry="count_visit"),
        State("blocked", final=True),
    )
    transitions = (
        Transition("enter", "locked", "closed", guards="is_right", effects="forget_mistakes"),
        Transition("enter", "locked", "blocked", guards="is_last_try"),
        Transition("enter", "locked", None, effects="count_mistake"),
        Transition("push", "closed", "open"),
        Transition("pull", "open", "closed"),
        Transition("lock", "closed", "locked"),
    )

    accepted_findings: ClassVar = {"FSM104": "a code that is right opens the door, be it at the last try"}

    def __init__(self, code: str) -> None:
        self._code = code
        self.mistakes = 0
        self.visits = 0

    def is_right(self, code: str) -> bool:
        """Whether that is the code."""
        return code == self._code

    def is_last_try(self) -> bool:
        """Whether two were wrong before this one."""
        return self.mistakes == 2

    def count_mistake(self) -> None:
        """One more code was wrong."""
        self.mistakes += 1

    def forget_mistakes(self) -> None:
        """Only wrong codes that follow one another count."""
        self.mistakes = 0

    def count_visit(self) -> None:
        """Somebody came in."""
        self.visits += 1


def main() -> None:
    """Come in at the second try."""
    door = Door("1234")
    door.on_transition(print)
    door.fire("enter", code="1111")
    door.fire("enter", code="1234")
    door.fire("push")
    try:
        door.fire("lock")
    except IllegalTriggerError as error:
        print(f"{error.trigger!r} is refused in {error.state!r}; allowed: {', '.join(error.allowed)}")
    door.fire("pull")
    door.fire("lock")
    print(f"{door.state}, {door.visits} visit, {door.mistakes} mistakes")


if __name__ == "__main__":
    main()
