"""Classes with one mistake each in what they start beside an activity, and in what all objects of a class share."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Any

from fsm_conn import Connection, ConnectionPool, Fires, FsmConnError, State, StateMachine, Transition, Trigger
from tests.testing.careless import careless
from tests.testing.careless_connections import Around, linked

__all__: list[str] = []


class Parcel(StateMachine, abstract=True):
    """What most of them share: something is sent, and can be sent again."""

    states = (
        State("here", initial=True),
        State("sending", on_error="broken", timeout=60, on_timeout="broken"),
        State("sent"),
    )
    transitions = (
        Transition("send", ("here", "sent"), "sending", effects="note"),
        Transition("stop", ("sending", "sent"), "here"),
        Transition("arrived", "sending", "sent"),
        Transition("broken", "sending", "here"),
        Transition("fault", "*", "here"),
    )
    weight = 0

    def note(self) -> None:
        """Nothing is noted."""

    async def while_sending(self) -> Annotated[str, Fires("arrived")]:
        await asyncio.sleep(1)
        return "arrived"


# --- errors that nobody reads -------------------------------------------------------------------------------------


@careless("_announce", make=lambda: Announcing())
class Announcing(Parcel):
    """The activity starts a task that has a bug, and asks no more about it."""

    async def while_sending(self) -> Annotated[str, Fires("arrived")]:
        asyncio.create_task(self._announce())  # noqa: RUF006
        await asyncio.sleep(3)
        return "arrived"

    async def _announce(self) -> None:
        await asyncio.sleep(0.5)
        print(1 / self.weight)


@careless("_track", make=lambda: Tracked())
class Tracked(Parcel):
    """The task is kept, and its error is never read."""

    async def while_sending(self) -> Annotated[str, Fires("arrived")]:
        self.tracking = asyncio.ensure_future(self._track())
        await asyncio.sleep(3)
        return "arrived"

    async def _track(self) -> None:
        await asyncio.sleep(0.5)
        raise OSError("no route to the tracker")


@careless("_write")
class Written(Parcel):
    """An effect starts a task that has a bug."""

    def note(self) -> None:
        asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        {}["address"]


@careless("_tell")
class Telling(Parcel):
    """An observer starts a task that has a bug, for one of the states only."""

    def __init__(self) -> None:
        self.on_transition(self._heard)

    def _heard(self, record: Any) -> None:
        asyncio.ensure_future(self._tell(record))  # noqa: RUF006

    async def _tell(self, record: Any) -> None:
        if record.dest == "sent":
            record.reason.args[0]


@careless("_weigh", make=lambda: Grouped())
class Grouped(Parcel):
    """A task of a group has a bug."""

    async def while_sending(self) -> Annotated[str, Fires("arrived")]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._weigh())
            group.create_task(asyncio.sleep(1))
        return "arrived"

    async def _weigh(self) -> None:
        await asyncio.sleep(0.2)
        print(1 / self.weight)


@careless("_label", make=lambda: Gathered())
class Gathered(Parcel):
    """Several things at once, of which nobody reads how they ended."""

    async def while_sending(self) -> Annotated[str, Fires("arrived")]:
        self.both = asyncio.gather(self._label(1), self._label(0))
        await asyncio.sleep(3)
        return "arrived"

    async def _label(self, weight: int) -> float:
        await asyncio.sleep(0.1)
        return 1 / weight


@careless("on_open", "_greet")
class Greeter(Connection):
    """A hook starts a call, and nobody reads that it failed."""

    def __init__(self, target: Any, **options: Any) -> None:
        super().__init__(target, on_open=self._welcome, **options)

    def _welcome(self, conn: Connection) -> None:
        asyncio.ensure_future(self._greet())  # noqa: RUF006

    async def _greet(self) -> None:
        await self.call("hello.Hello")


class Reading(Around):
    """Reads beside everything else, until reading fails."""

    async def open(self) -> None:
        await self.inner.open()
        self.reader = asyncio.ensure_future(self.read())

    async def close(self) -> None:
        self.reader.cancel()
        await self.inner.close()

    async def read(self) -> None:
        raise LookupError(await self.inner.lost())


linked("OverReading", Reading, "read")


@careless("_refresh")
class Refreshing(ConnectionPool):
    """A task of the pool's own dies with the first call that fails."""

    def begin_service(self, reason: BaseException | None) -> None:
        super().begin_service(reason)
        self.refreshing = asyncio.ensure_future(self._refresh())

    def end_service(self, reason: BaseException | None) -> None:
        self.refreshing.cancel()
        super().end_service(reason)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(1)
            await self.call("cache.Refresh")


@careless("_count")
class Counting(ConnectionPool):
    """A hook starts a task that has a bug."""

    def __init__(self, target: Any, *args: Any, **options: Any) -> None:
        options["on_release"] = self._released
        super().__init__(target, *args, **options)

    def _released(self, conn: Connection) -> None:
        asyncio.ensure_future(self._count(conn))  # noqa: RUF006

    async def _count(self, conn: Any) -> None:
        self.counts[conn.name] += 1  # type: ignore[attr-defined]


# --- coroutines that nobody awaits ---------------------------------------------------------------------------------


@careless("while_sending", make=lambda: Unsent())
class Unsent(Parcel):
    """What sends it is called, and not awaited."""

    async def while_sending(self) -> Annotated[str, Fires("arrived")]:
        self._hand_over()  # type: ignore[unused-coroutine]
        await asyncio.sleep(1)
        return "arrived"

    async def _hand_over(self) -> None:
        await asyncio.sleep(1)


@careless("note")
class Unmentioned(Parcel):
    """An effect cannot await what tells others, and nothing else does."""

    def note(self) -> None:
        self._tell()  # type: ignore[unused-coroutine]

    async def _tell(self) -> None:
        await asyncio.sleep(1)


@careless("_clean")
class Unclean(ConnectionPool):
    """A plain hook calls, and hands on nothing to await."""

    def __init__(self, target: Any, *args: Any, **options: Any) -> None:
        options["on_release"] = self._clean
        super().__init__(target, *args, **options)

    def _clean(self, conn: Connection) -> None:
        conn.call("session.Reset")  # type: ignore[unused-coroutine]


# --- speaking late ------------------------------------------------------------------------------------------------


@careless("_hurry", make=lambda: Hurried())
class Hurried(Parcel):
    """What one visit has started speaks in the next one."""

    async def while_sending(self) -> Annotated[str, Fires("arrived")]:
        self.hurrying = asyncio.ensure_future(self._hurry())
        await asyncio.sleep(50)
        return "arrived"

    async def _hurry(self) -> None:
        await asyncio.sleep(10)
        if self.state == "sending":
            self.fire("arrived")


@careless("_remind", make=lambda: Reminded())
class Reminded(Parcel):
    """A timer of one visit goes off in the next one."""

    async def while_sending(self) -> Annotated[str, Fires("arrived")]:
        asyncio.get_running_loop().call_later(20, self._remind)
        await asyncio.sleep(50)
        return "arrived"

    def _remind(self) -> None:
        if self.handles("arrived"):
            self.fire("arrived")


@careless("note", "_remind")
class Alarmed(Parcel):
    """A timer that an effect has set goes off in the next visit, which has set its own."""

    def note(self) -> None:
        asyncio.get_running_loop().call_later(20, self._remind)

    def _remind(self) -> None:
        with suppress(FsmConnError):  # it is not being sent any more
            self.fire("arrived")


@careless("expect", "_give_up", make=lambda: Expecting())
class Expecting(Parcel):
    """The same by an effect of the state, and a timer of which only the last is cancelled, and only by success."""

    states = (
        State("here", initial=True),
        State("sending", entry="expect", on_error="broken", timeout=60, on_timeout="broken"),
        State("sent", entry="relax"),
    )
    timer: asyncio.TimerHandle | None = None

    def expect(self) -> None:
        self.timer = asyncio.get_running_loop().call_later(30, lambda: self._give_up())

    def relax(self) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def _give_up(self) -> None:
        with suppress(FsmConnError):
            self.fire("broken")

    async def while_sending(self) -> Annotated[str, Fires("arrived")]:
        await asyncio.sleep(50)
        return "arrived"


@careless("_age")
class Aging(Connection):
    """The age of one link ends the next one."""

    async def while_connected(self) -> Annotated[str, Fires(Trigger.LOST)]:
        self.aging = asyncio.ensure_future(self._age())
        return await super().while_connected()

    async def _age(self) -> None:
        await asyncio.sleep(30)
        if self.state == "connected":
            self.fire(Trigger.RECONNECT)


# --- what all objects of a class share ----------------------------------------------------------------------------


@careless("note", "Listed")
class Listed(Parcel):
    """A list of the class, to which every object appends."""

    parts: list[str] = []

    def note(self) -> None:
        self.parts.append("part")


@careless("__init__", "note")
class Defaulted(Parcel):
    """A default that every object gets, and changes."""

    def __init__(self, tags: dict[str, int] = {}) -> None:  # noqa: B006
        self.tags = tags

    def note(self) -> None:
        self.tags["sent"] = self.tags.get("sent", 0) + 1


class Ledger:
    """What somebody keeps."""

    def __init__(self) -> None:
        self.lines: list[str] = []


@careless("note", "Booked")
class Booked(Parcel):
    """One ledger for all."""

    ledger = Ledger()

    def note(self) -> None:
        self.ledger.lines.append("sent")


@careless("while_connected", "Remembering")
class Remembering(Connection):
    """What one connection has seen, another takes for its own."""

    seen: dict[str, int] = {}

    async def while_connected(self) -> Annotated[str, Fires(Trigger.LOST)]:
        self.seen["links"] = self.seen.get("links", 0) + 1
        return await super().while_connected()


@careless("begin_service", "Pooled")
class Pooled(ConnectionPool):
    """Two pools of one class are taken for one."""

    names: set[str] = set()

    def begin_service(self, reason: BaseException | None) -> None:
        super().begin_service(reason)
        self.names.add(f"opening {len(self.names)}")
