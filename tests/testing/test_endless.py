"""User code that goes on for ever without awaiting anything hangs no test: it is told of as a life, with its line."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from typing import Annotated, Any

import pytest

from fsm_conn import Connection, Fires, State, StateMachine, Transition
from fsm_conn.testing import Life, MachineLife, ViolationError, VirtualLoop, explore, random_lives
from fsm_conn.testing.lives import endless
from fsm_conn.testing.lives.endless import _interrupt
from fsm_conn.testing.lives.replaying import replay, shortest
from fsm_conn.testing.lives.script import Script, Step
from fsm_conn.testing.loops.lean import InterruptedTurn
from fsm_conn.testing.virtual import LivelockError


class Soon(MachineLife):
    """Is sooner sure that something goes on for ever."""

    most_cpu_time = 0.3


class SoonConnected(Life):
    """The same, of connections."""

    most_cpu_time = 0.3


class Counts(StateMachine):
    """Has a guard and an effect, for others to get wrong."""

    states = (State("idle", initial=True), State("full"))
    transitions = (
        Transition("add", "idle", "full", guards=("is_full",)),
        Transition("add", "idle", None, effects=("count",)),
        Transition("empty", "full", "idle"),
    )

    def __init__(self) -> None:
        self.count_of = 0

    def is_full(self) -> bool:
        """Whether it is."""
        return self.count_of > 2

    def count(self) -> None:
        """One more."""
        self.count_of += 1


class EffectSpins(Counts):
    """Forgot to count in its loop."""

    def count(self) -> None:
        """One more."""
        self.count_of += 1
        while self.count_of == 2:
            pass  # bug


class GuardSpins(Counts):
    """Catches whatever is raised in its loop."""

    def is_full(self) -> bool:
        """Whether it is."""
        while self.count_of == 2:
            with contextlib.suppress(BaseException):
                len("bug")
        return self.count_of > 2


class ActivitySpins(StateMachine):
    """Polls, and never waits in between."""

    states = (State("idle", initial=True), State("polling"))
    transitions = (
        Transition("poll", "idle", "polling"),
        Transition("done", "polling", "idle"),
        Transition("fault", "polling", "idle"),
    )
    ready = False

    async def while_polling(self) -> str:
        """Wait until it is ready."""
        await asyncio.sleep(1)
        while not self.ready:
            pass  # bug
        return "done"


class ConnectionSpins(Connection):
    """Does so as a connection."""

    async def while_connected(self) -> str:
        """Wait for the end of the link, and then for nothing."""
        lost = await super().while_connected()
        while lost:
            pass  # bug
        return lost


SPINNING: dict[type[Any], dict[str, Any]] = {
    EffectSpins: {"life": Soon},
    GuardSpins: {"life": Soon},
    ActivitySpins: {"life": Soon, "make": ActivitySpins},
    ConnectionSpins: {"life": SoonConnected},
}


@pytest.mark.parametrize("search", [explore, random_lives], ids=lambda search: str(search.__name__))
@pytest.mark.parametrize("subject", SPINNING, ids=lambda subject: str(subject.__name__))
def test_an_endless_loop_is_told_as_a_life(subject: type[Any], search: Any) -> None:
    """By its rule, with the function, the file and the line, and as few steps as are needed."""
    violation = search(subject, **SPINNING[subject]).violation
    assert violation is not None
    assert violation.invariant == "no_livelock"
    assert f"{subject.__name__}." in violation.message
    assert "test_endless.py:" in violation.message
    assert len(violation.script.steps) <= 4, str(violation)


class TakesItsTime(StateMachine):
    """What it starts goes on for long at one and the same time, or for ever."""

    states = (State("idle", initial=True), State("long"), State("spinning"))
    transitions = (
        Transition("start", "idle", "long"),
        Transition("done", "long", "idle"),
        Transition("fault", ("long", "spinning"), "idle"),
        Transition("spin", "idle", "spinning"),
    )

    async def while_long(self) -> Annotated[str, Fires("done")]:
        """It ends."""
        for _ in range(5000):
            await asyncio.sleep(0)
        return "done"

    async def while_spinning(self) -> None:
        """It does not."""
        while True:
            await asyncio.sleep(0)


def test_what_only_takes_long_is_no_endless_loop_in_a_shorter_life_either() -> None:
    """There, loops are taken for endless after fewer rounds; what is told is found again with all of them."""
    steps = [Step("fire", ("start",)), Step("fire", ("spin",))]
    with pytest.raises(ViolationError) as caught:
        replay(Script(MachineLife, TakesItsTime, {}, steps), make=TakesItsTime)
    assert caught.value.invariant == "no_livelock"
    script = shortest(caught.value, make=TakesItsTime).script
    assert script is not None
    assert [str(step) for step in script.steps] == ["life.fire('spin')"]


class Clumsy:
    """Takes long to go away."""

    def __del__(self) -> None:
        for _ in range(10_000):
            pass


def test_what_is_interrupted_while_it_is_freed_is_told_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter tells nobody of finalizers that are interrupted, and of others it does, then and later."""
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: told.append(about.exc_type))

    class Fails:
        def __del__(self) -> None:
            raise KeyError

    class Frees(Counts):
        def count(self) -> None:
            Fails()
            while True:
                Clumsy()

    with pytest.raises(ViolationError, match="no_livelock"):
        Soon(Frees).fire("add")
    Fails()
    assert told == [KeyError, KeyError]


def test_the_usual_limit_is_generous() -> None:
    """What only computes for a while is left alone: a limit is of CPU time, and says nothing of a slow machine."""
    assert MachineLife.most_cpu_time == Life.most_cpu_time == 10.0


def test_what_waits_outside_the_loop_takes_no_time_of_it() -> None:
    """A debugger may stop it for as long as it likes."""
    held = threading.Lock()
    held.acquire()

    class Debugged(Counts):
        def count(self) -> None:
            self.count_of += 1
            held.acquire(timeout=0.5)

    life = Soon(Debugged)
    life.fire("add")
    life.end()


def test_the_test_goes_on_in_the_same_thread_afterwards() -> None:
    """Nothing is raised any more once the life has ended."""
    with pytest.raises(ViolationError, match="no_livelock"):
        spin()
    assert sum(number for number in range(300_000)) > 0


def spin() -> None:
    """A life that goes on and on."""
    life = Soon(EffectSpins)
    for _ in range(3):
        life.fire("add")


class Turns:
    """A loop with short turns, and a note of each that was interrupted although another was meant."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.meant = 0
        self.wrong: list[str] = []

    def turn(self) -> None:
        """Compute for a moment."""
        number = self.loop.turns
        try:
            sum(each for each in range(20))
        except InterruptedTurn:
            if self.meant != number:
                self.wrong.append(f"{number} instead of {self.meant}")

    def watch(self, ended: threading.Event) -> None:
        """Interrupt each turn once, as late as possible."""
        while not ended.is_set():
            busy, number = self.loop._busy, self.loop.turns
            if busy and number > self.meant:
                self.meant = number
                _interrupt(self.loop, (busy, number), "it goes on and on")


def test_a_turn_that_has_ended_is_not_interrupted() -> None:
    """It ends while the watcher decides: what runs afterwards is left alone, and nothing is told of it."""
    loop = VirtualLoop()
    turns: list[tuple[int, int]] = []

    def interrupt() -> None:
        _interrupt(loop, turns[0], "it goes on and on")

    loop.call_soon(lambda: turns.append((loop._busy, loop.turns)))
    loop.run_until_blocked()
    interrupt()
    loop.call_soon(interrupt)
    loop.run_until_blocked()
    loop.inside(interrupt)
    loop.close()


def test_nothing_else_runs_once_a_turn_was_interrupted_as_it_ended() -> None:
    """The exception may come a moment later than the end of the turn: the next one has not begun by then."""
    loop = VirtualLoop()
    ran: list[int] = []
    loop.call_soon(setattr, loop, "_endless", "it goes on and on")
    loop.call_soon(ran.append, 1)
    with pytest.raises(LivelockError, match="it goes on and on"):
        loop.run_until_blocked()
    assert ran == []
    loop.call_soon(ran.append, 2)
    loop.run_until_blocked()
    assert ran == [2]
    loop.close()


def test_no_other_turn_is_interrupted_than_the_one_that_was_meant() -> None:
    """However the threads of the loop and of its watcher take turns: in thousands of turns that are about to end."""
    turns, ended = Turns(), threading.Event()
    usual, watcher = sys.getswitchinterval(), threading.Thread(target=turns.watch, args=(ended,))
    sys.setswitchinterval(1e-6)
    watcher.start()
    try:
        for _ in range(3_000):
            turns.loop.call_soon(turns.turn)
            with contextlib.suppress(LivelockError, InterruptedTurn):
                turns.loop.run_until_blocked()
    finally:
        ended.set()
        watcher.join()
        sys.setswitchinterval(usual)
        turns.loop.close()
    assert turns.wrong == []


class Unseen:
    """`sys._current_frames`, where nobody may look."""

    looks = 0

    def __call__(self) -> dict[int, Any]:
        """Count, and show nothing."""
        self.looks += 1
        return {}


def test_frames_are_looked_at_only_when_a_turn_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at the frames of a thread that runs risks its life: once the interpreter died of it."""
    unseen = Unseen()
    monkeypatch.setattr(endless.sys, "_current_frames", unseen)
    marks: dict[Any, Any] = {}
    loop = VirtualLoop()
    try:

        async def busy() -> None:
            begun = loop._cpu_time()
            while loop._cpu_time() - begun < 0.2:
                endless._look_at(loop, 1000.0, marks)
            assert unseen.looks == 0
            endless._look_at(loop, 0.0, marks)

        loop.run_until_complete(busy())
    finally:
        loop.close()
    assert unseen.looks == 1


def test_the_clock_of_a_thread_that_has_ended_is_refused() -> None:
    """To ask for it by the thread's number would end the interpreter."""
    loop = VirtualLoop()
    try:
        thread = threading.Thread(target=loop._begin)
        thread.start()
        thread.join()
        with contextlib.suppress(OSError):  # where the system keeps it a while
            assert loop._cpu_time() >= 0
        assert endless._look_at(loop, 0.0, {}) is None
    finally:
        loop._busy = 0
        loop.close()
