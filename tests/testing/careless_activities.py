"""Plain machines with one mistake each in their activities and time limits."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import time
from time import sleep
from typing import Annotated, Any

from fsm_conn import Fires, State, StateMachine, Transition
from tests.testing.careless import careless

__all__: list[str] = []


class Job(StateMachine, abstract=True):
    """What most of them share: something is done, and can be done again."""

    states = (
        State("idle", initial=True),
        State("working", on_error="broken", timeout=60, on_timeout="expired"),
        State("done", final=True),
        State("failed", final=True),
    )
    transitions = (
        Transition("work", ("idle", "done", "failed"), "working"),
        Transition("stop", "working", "idle"),
        Transition("worked", "working", "done"),
        Transition("broken", "working", "failed"),
        Transition("expired", "working", "failed"),
        Transition("fault", "*", "failed"),
    )


@careless("while_working", make=lambda: Misspelt())
class Misspelt(Job):
    """What the activity returns is no trigger."""

    async def while_working(self) -> str:
        await asyncio.sleep(1)
        return "wroked"


@careless("while_sending", make=lambda: Forgetful())
class Forgetful(StateMachine):
    """Falls off its end, where only its own trigger leads on."""

    states = (State("idle", initial=True), State("sending", on_error="failed"), State("done", final=True))
    transitions = (
        Transition("send", "idle", "sending"),
        Transition("sent", "sending", "done"),
        Transition("failed", "sending", "idle"),
        Transition("fault", "*", "idle"),
    )

    def __init__(self) -> None:
        self.parts = [1, 2, 3]

    async def while_sending(self) -> Annotated[str | None, Fires("sent")]:
        for part in self.parts:
            await asyncio.sleep(0.1)
            if part > 3:
                return "sent"
        return None


@careless("while_listening", make=lambda: Listener())
class Listener(StateMachine):
    """Waits without a limit for what nobody tells it."""

    states = (State("off", initial=True), State("listening", on_error="gone"), State("on"))
    transitions = (
        Transition("listen", "off", "listening"),
        Transition("heard", "listening", "on"),
        Transition("gone", "listening", "off"),
        Transition("end", "on", "off"),
        Transition("fault", "*", "off"),
    )

    async def while_listening(self) -> Annotated[str, Fires("heard")]:
        told = asyncio.Event()
        await told.wait()
        return "heard"


@careless("while_working", make=lambda: Stubborn())
class Stubborn(Job):
    """Takes its cancellation for one more error after which to go on."""

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        for _ in range(1000):
            try:
                await asyncio.sleep(3)
            except BaseException:
                continue
        return "worked"


@careless("while_working", make=lambda: LastWord())
class LastWord(Job):
    """Fires in its cleanup what the next state does not handle."""

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        try:
            await asyncio.sleep(3)
            return "worked"
        except asyncio.CancelledError:
            self.fire("broken")
            raise


@careless("while_working", "beat", make=lambda: Heart())
class Heart(Job):
    """Starts a task, and leaves it behind."""

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        self.beating = asyncio.ensure_future(self.beat())
        await asyncio.sleep(3)
        return "worked"

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(1)


@careless("while_working", make=lambda: Impatient())
class Impatient(Job):
    """Asks again and again without letting time pass."""

    is_ready = False

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        while not self.is_ready:
            await asyncio.sleep(0)
        return "worked"


@careless("while_working", make=lambda: Sleeper())
class Sleeper(Job):
    """Blocks the event loop."""

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        await asyncio.sleep(0.1)
        time.sleep(0.2)
        return "worked"


@careless("work_and_wait", make=lambda: OneOfTwo())
class OneOfTwo(Job):
    """Waits for success only, and it may fail for good."""

    transitions = (
        *(row for row in Job.transitions if row.trigger != "work"),
        Transition("work", "idle", "working"),
    )

    async def work_and_wait(self) -> None:
        if self.handles("work"):
            self.fire("work")
            await self.wait_for_state("done")

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        await asyncio.sleep(1)
        raise OSError("nobody is there")


@careless("while_working", make=lambda: Fetching())
class Fetching(Job):
    """Waits for a thread, as only a thread may."""

    def __init__(self) -> None:
        self.jobs: queue.Queue[str] = queue.Queue()

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        await asyncio.sleep(1)
        self.jobs.get(timeout=0.1)
        return "worked"


@careless("while_working", make=lambda: Sleepy())
class Sleepy(Job):
    """Sleeps by a name of its own."""

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        sleep(0.1)
        await asyncio.sleep(1)
        return "worked"


@careless("while_working", make=lambda: Spawning())
class Spawning(Job):
    """Runs a program, and waits for it."""

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        await asyncio.sleep(1)
        subprocess.run(["true"], check=True)
        return "worked"


@careless("while_working", make=lambda: Cached())
class Cached(Job):
    """A bug that only the second time shows."""

    def __init__(self) -> None:
        self.cache: dict[str, int] = {}

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        await asyncio.sleep(0.1)
        if self.cache:
            self.cache["misses"] += 1
        self.cache["hits"] = 1
        return "worked"


@careless("while_working", "shut", make=lambda: Untidy())
class Untidy(Job):
    """Its cleanup raises."""

    file: Any = None

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        try:
            await asyncio.sleep(3)
            self.file = open  # only now there is something to shut
        finally:
            self.shut()
        return "worked"

    def shut(self) -> None:
        self.file.closed


@careless("while_playing", "Player")
class Player(StateMachine):
    """The annotation names a trigger that this state does not handle."""

    states = (State("stopped", initial=True), State("playing", on_error="stop"), State("paused"))
    transitions = (
        Transition("play", "stopped", "playing"),
        Transition("pause", "playing", "paused"),
        Transition("resume", "paused", "playing"),
        Transition("stop", ("playing", "paused"), "stopped"),
        Transition("fault", "*", "stopped"),
    )

    async def while_playing(self) -> Annotated[str, Fires("stop", "resume")]:
        await asyncio.sleep(200)
        return "stop"


@careless("while_fetching", "Fetcher")
class Fetcher(StateMachine):
    """An error leads to the same state again, at once, and for ever."""

    states = (State("idle", initial=True), State("fetching", on_error="retry", timeout=30, on_timeout="retry"))
    transitions = (
        Transition("fetch", "idle", "fetching"),
        Transition("fetched", "fetching", "idle"),
        Transition("retry", "fetching", "fetching"),
        Transition("fault", "*", "idle"),
    )

    async def while_fetching(self) -> Annotated[str, Fires("fetched")]:
        reader, _ = await asyncio.open_connection("127.0.0.1", 9)
        await reader.read()
        return "fetched"


@careless("while_working", make=lambda: Waiter())
class Waiter(Job):
    """Waits for the state that only its own end leads to; the limit is never reached, for there is none."""

    states = (
        State("idle", initial=True),
        State("working", on_error="broken"),
        State("done", final=True),
        State("failed", final=True),
    )

    async def while_working(self) -> Annotated[str, Fires("worked")]:
        await self.wait_for_state("done", "failed")
        return "worked"


@careless("slow_down", "Backoff")
class Backoff(StateMachine):
    """A limit that an effect makes negative."""

    states = (State("idle", initial=True), State("waiting", timeout="pause", on_timeout="over"))
    transitions = (
        Transition("wait", "idle", "waiting"),
        Transition("over", "waiting", "idle", effects="slow_down"),
        Transition("hurry", "waiting", "idle"),
    )

    pause = 3.0

    def slow_down(self) -> None:
        self.pause -= 1


@careless("on_change", "__init__")
class Logged(StateMachine):
    """Its observer fails on the first record that has no reason."""

    states = (State("up", initial=True), State("down"))
    transitions = (Transition("fail", "up", "down"), Transition("mend", "down", "up"))

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.on_transition(self.on_change)

    def on_change(self, record: Any) -> None:
        self.lines.append(record.reason.args[0])
