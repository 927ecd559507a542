"""Tables with one slip each, and beside each the like of it that is in order.

Every pair tells what is found in the first, by its code and place; in the second nothing is found.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Literal

import attrs
from transitions import Machine
from transitions.extensions import HierarchicalMachine

from fsm_conn import Connection, Fires, State, Transition, Trigger, insert_state, others
from fsm_conn.connection.derive import add_state
from fsm_conn.machine.machine import StateMachine


@attrs.frozen
class Pair:
    """A slip, and what is not one."""

    broken: Callable[[], Any]
    found: tuple[str, ...]
    """The keys of the findings."""
    sound: Callable[[], Any]
    said: str = ""
    """A part of the message."""


class Shop(StateMachine):
    """Closed, open, closed; what the pairs below are derived from."""

    states: Any = (State("closed", initial=True, final=True), "open")
    transitions: Any = (
        Transition("enter", "closed", "open"),
        Transition("leave", "open", "closed"),
        Transition("fault", "*", "closed"),
    )

    def is_late(self, reason: BaseException | None) -> bool:
        return False

    def is_empty(self, reason: BaseException | None) -> bool:
        return False

    def count(self, reason: BaseException | None) -> None: ...


def forgets_to_answer(self: Any, reason: object) -> Any:
    """Compares, and keeps it to itself."""
    self.count == reason  # noqa: B015


def answers_at_times(self: Any, reason: object) -> bool | None:
    """No is not said, but meant."""
    if reason is None:
        return True
    return None


async def leaves_or_forgets(self: Any) -> Annotated[str, Fires("leave")]:  # type: ignore[return]  # noqa: RET503
    await asyncio.sleep(1)
    if self.is_late(None):
        return "leave"


async def leaves_or_says_so(self: Any) -> Annotated[str | None, Fires("leave")]:
    await asyncio.sleep(1)
    return "leave" if self.is_late(None) else None


async def leaves_unless_suppressed(self: Any) -> Annotated[str, Fires("leave")]:  # type: ignore[return]
    with contextlib.suppress(OSError):
        await asyncio.sleep(1)
        return "leave"


async def leaves_in_time(self: Any) -> Annotated[str, Fires("leave")]:
    async with asyncio.timeout(1):
        return "leave"


def shop(
    *rows: Transition,
    states: tuple[State | str, ...] = (),
    replacing: str = "",
    replacing_state: State | None = None,
    **members: Any,
) -> type[Shop]:
    """A shop with more states, rows and methods; of the old rows without those of the trigger `replacing`."""
    kept = tuple(row for row in Shop.transitions if row.trigger != replacing)
    old = [
        each for each in Shop.states if replacing_state is None or getattr(each, "name", each) != replacing_state.name
    ]
    new = (*old, *(() if replacing_state is None else (replacing_state,)), *states)
    return type("Mine", (Shop,), {"states": new, "transitions": (*rows, *kept), **members})


def sets_patience(self: Any) -> None:
    self.patience = 2.0


async def says_late(self: Any) -> Annotated[str, Fires("late")]:
    return "late"


def connection(*rows: Transition, states: tuple[State | str, ...] = (), **members: Any) -> type[Connection]:
    """A connection with rows before those of the base table."""
    return type(
        "Mine",
        (Connection,),
        {"states": (*Connection.states, *states), "transitions": (*rows, *Connection.transitions), **members},
    )


class Model:
    """Of plain machines."""

    is_warm = True

    def is_hot(self) -> bool:
        return True

    def sweat(self) -> None: ...


def plain(*rows: dict[str, Any], states: Any = ("solid", "liquid"), kind: Any = Machine, **options: Any) -> Any:
    """A machine of `transitions` in which there and back again is possible."""
    around = ({"trigger": "melt", "source": "solid", "dest": "liquid"}, ["freeze", "liquid", "solid"])
    return kind(
        options.pop("model", Model()),
        states,
        initial="solid",
        transitions=[*rows, *around],
        auto_transitions=False,
        **options,
    )


def row(trigger: str, source: str, dest: str | None, *conditions: Any, **options: Any) -> dict[str, Any]:
    return {"trigger": trigger, "source": source, "dest": dest, "conditions": list(conditions), **options}


NESTED: Any = ("solid", {"name": "liquid", "initial": "still", "children": ["still", "moving"]})


async def opens_it(self: Any) -> Literal["done"]:
    return "done"


async def fires_dome(self: Any) -> Literal["dome"]:
    return "dome"


async def says_leave(self: Any) -> Annotated[str, Fires("leave")]:
    return "leave"


async def says_nothing(self: Any) -> str:
    """Neither its annotation nor its code tells what that is."""
    return str(getattr(self, "word", "leave"))


async def returns_authenticated(self: Any) -> str:
    return "authenticated"


async def returns_misspelt(self: Any) -> str:
    if self.name:
        return "authentcated"
    return "authenticated"


DONE, GONE = "leave", "leaf"


async def returns_done(self: Any) -> str:
    return DONE


async def returns_gone(self: Any) -> str:
    return GONE


async def returns_lost(self: Any) -> str:
    return Trigger.LOST


async def returns_open_failed(self: Any) -> str:
    return Trigger.OPEN_FAILED


async def rests(self: Any) -> None: ...


async def releases(self: Any) -> None:
    await self._tidy()


async def tidy(self: Any) -> None:
    await self._release()


def inserted(**members: Any) -> type[Connection]:
    """A connection that authenticates after every open."""
    states, rows = insert_state(
        Connection, "authenticating", trigger="opened", before="connected", then="authenticated", like="connecting"
    )
    return type("Mine", (Connection,), {"states": states, "transitions": rows, **members})


async def asks_elsewhere(self: Any) -> str:
    """An attribute that the class has, so that no service is meant."""
    await asyncio.sleep(self.start_timeout)
    return "authenticated"


async def asks_the_peer(self: Any) -> str:
    await self.vault.Login(token="t")
    return "authenticated"


def beside(**members: Any) -> type[Connection]:
    """A connection that can be paused."""
    states, rows = add_state(Connection, "paused", beside="connected", trigger="pause", back="resume")
    return type("Mine", (Connection,), {"states": states, "transitions": rows, **members})


async def watches(self: Any) -> str:
    return str(await self.while_connected())


async def waits_for_either(self: Any) -> str:
    await self._either(asyncio.sleep(9))
    return "resume"


async def either(self: Any, other: Any) -> None:
    """What wraps it knows the link."""
    tasks = [asyncio.ensure_future(other), asyncio.ensure_future(self.link.lost())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def says_leave_later(self: Any) -> str:
    await asyncio.Event().wait()
    return "disconnect"


async def watches_as_ever(self: Any) -> str:
    return str(await Connection.while_connected(self))


class Idle(StrEnum):
    PAUSED = "paused"


PAUSE = (
    Transition("pause", "connected", Idle.PAUSED),
    Transition("resume", Idle.PAUSED, "reconnecting", effects=("begin_outage", "count_attempt")),
)


BEGIN = ("begin_outage", "count_attempt")
LEAVE = Transition("leave", "disconnected", "parked")


def parked(park: tuple[str, ...] = (), wake: tuple[str, ...] = ()) -> tuple[Transition, ...]:
    """Rows of a state of rest without a link, with what is done on the way there and on."""
    return (
        Transition("park", "connected", "parked", effects=park),
        Transition("wake", "parked", "reconnecting", effects=wake),
    )


def asleep(doze: tuple[str, ...] = ()) -> tuple[Transition, ...]:
    """Two states of rest, one after the other."""
    return (
        Transition("park", "connected", "parked"),
        Transition("doze", "parked", "asleep", effects=doze),
        Transition("wake", "asleep", "reconnecting"),
    )


def without_a_way_out() -> type[Connection]:
    rows = tuple(
        attrs.evolve(row, source=others("disconnected", "disconnecting", "paused"))
        if row.trigger == Trigger.DISCONNECT
        else row
        for row in Connection.transitions
    )
    states = (*Connection.states, Idle.PAUSED)
    return type("Mine", (Connection,), {"states": states, "transitions": (*PAUSE, *rows), "while_paused": tidy})


async def waits(self: Any) -> Literal["leave"]:
    await asyncio.sleep(1)
    return "leave"


async def asks(self: Any) -> Literal["enter"]:
    return "enter"


def circle(*before: Transition, **options: Any) -> type[Shop]:
    """Whose activities fire one another's triggers."""
    return shop(
        *before,
        Transition("leave", "open", "closed", **options),
        replacing="leave",
        while_open=waits,
        while_closed=asks,
    )


async def opens_anew(self: Any) -> Literal["opened"]:
    await self._release()
    await self._open_link()
    return "opened"


async def lets_it_be(self: Any) -> None: ...


async def calls(self: Any) -> None:
    await self.call("shop.Pause")


async def closes_by_hand(self: Any) -> None:
    await self.link.close()


def wrapped(activity: Any) -> Any:
    """As a decorator does that does not say what it wraps."""

    async def inner(self: Any) -> None:
        await activity(self)

    return inner


def may_rety(self: Any, reason: BaseException | None) -> bool:
    return False


def is_asked(self: Any, reason: BaseException | None) -> bool:
    return self.may_rety(reason)


def waiting_for_done(**members: Any) -> type[Shop]:
    """In a state without an activity, for what the activity of another fires."""
    rows = (Transition("done", ("open", "busy"), "closed"), Transition("work", "open", "busy"))
    return shop(*rows, states=("busy",), while_open=opens_it, **members)


def replaced(trigger: str, *rows: Transition) -> type[Connection]:
    """A connection with other rows for a trigger."""
    kept = tuple(row for row in Connection.transitions if row.trigger != trigger)
    return type("Mine", (Connection,), {"transitions": (*rows, *kept)})


def connection_always_restarted(state: str) -> type[Connection]:
    """Whatever the policy says."""
    lost = Transition("lost", ("connected", "renewing"), state, effects=("begin_outage", "count_attempt"))
    failed = Transition("open_failed", "reconnecting", "reconnecting", effects="count_attempt")
    rows = tuple(row for row in Connection.transitions if row.trigger not in ("lost", "open_failed"))
    given_up = Transition("open_failed", "connecting", "failed")
    return type("Mine", (Connection,), {"transitions": (lost, failed, given_up, *rows)})


def looking(effects: tuple[str, ...]) -> type[Connection]:
    """A connection that looks for its peer after it was asked to connect, and counts the attempt with that."""
    rows = tuple(row for row in Connection.transitions if row.trigger != "connect")
    if not effects:
        return replaced("connect", Transition("connect", ("disconnected", "failed"), "connecting"))
    mine = (
        Transition("connect", ("disconnected", "failed"), "looking", effects=effects),
        Transition("found", "looking", "connecting"),
    )
    return type(
        "Mine",
        (Connection,),
        {"states": (*Connection.states, "looking"), "transitions": (*mine, *rows), "while_looking": finds},
    )


async def finds(self: Any) -> Literal["found"]:
    await self._release()
    return "found"


PAIRS: dict[str, Pair] = {
    "a state to which nothing leads": Pair(
        lambda: shop(Transition("open_again", "hidden", "open"), states=("hidden",)),
        ("FSM101 hidden",),
        lambda: shop(
            Transition("open_again", "hidden", "open"), Transition("hide", "closed", "hidden"), states=("hidden",)
        ),
        "'hidden' cannot be reached from 'closed'",
    ),
    "a state to which only a fault leads, which is a way": Pair(
        lambda: shop(Transition("mend", "broken", "closed"), states=("broken",)),
        ("FSM101 broken",),
        lambda: shop(
            Transition("mend", "broken", "closed"),
            Transition("fault", "*", "broken"),
            states=("broken",),
            replacing="fault",
        ),
    ),
    "a state to which only a row leads that is never taken": Pair(
        lambda: plain(
            row("heat", "solid", "gas", "is_hot", unless=["is_hot"]),
            row("cool", "gas", "solid"),
            states=("solid", "liquid", "gas"),
        ),
        ("FSM101 gas", "FSM105 heat: solid -> gas [is_hot, not is_hot]"),
        lambda: plain(
            row("heat", "solid", "gas", "is_hot", unless=["is_warm"]),
            row("cool", "gas", "solid"),
            states=("solid", "liquid", "gas"),
        ),
        "its guards contradict one another",
    ),
    "a part of a state to which nothing leads": Pair(
        lambda: plain(states=NESTED, kind=HierarchicalMachine),
        ("FSM101 liquid_moving",),
        lambda: plain(row("stir", "liquid_still", "liquid_moving"), states=NESTED, kind=HierarchicalMachine),
    ),
    "a state that is left only by a fault": Pair(
        lambda: shop(Transition("lock", "open", "locked"), Transition("knock", "locked", None), states=("locked",)),
        ("FSM102 locked",),
        lambda: shop(
            Transition("lock", "open", "locked"),
            Transition("knock", "locked", None),
            states=(State("locked", final=True),),
        ),
        "nothing leads on from 'locked'; it handles 'knock', 'fault'",
    ),
    "a state that leads only to itself": Pair(
        lambda: plain(row("burn", "solid", "ash"), row("stir", "ash", "="), states=("solid", "liquid", "ash")),
        ("FSM102 ash",),
        lambda: plain(row("burn", "solid", "ash"), row("stir", "ash", "solid"), states=("solid", "liquid", "ash")),
    ),
    "a circle without a way home": Pair(
        lambda: shop(
            Transition("lock", "open", "locked"),
            Transition("bar", "locked", "barred"),
            Transition("unbar", "barred", "locked"),
            states=("locked", "barred"),
        ),
        ("FSM103 barred", "FSM103 locked"),
        lambda: shop(
            Transition("lock", "open", "locked"),
            Transition("bar", "locked", "barred"),
            Transition("unbar", "barred", "locked"),
            states=("locked", State("barred", final=True)),
        ),
        "from 'barred' there is only the way to 'locked', and not to 'closed'",
    ),
    "two guards that may agree, and lead to different states": Pair(
        lambda: shop(Transition("leave", "open", "closed", "is_late"), Transition("leave", "open", "open", "is_empty")),
        ("FSM104 leave in open",),
        lambda: shop(
            Transition("leave", "open", "open", ("is_late", "is_empty")),
            Transition("leave", "open", "closed", "is_late"),
            Transition("leave", "open", "open", "is_empty"),
        ),
        "only their order decides between (leave: open -> closed [is_late]) and (leave: open -> open [is_empty])",
    ),
    "two guards that may agree, and do different things": Pair(
        lambda: shop(
            Transition("leave", "open", "closed", "is_late", "count"), Transition("leave", "open", "closed", "is_empty")
        ),
        ("FSM104 leave in open",),
        lambda: shop(
            Transition("leave", "open", "closed", "is_late", "count"),
            Transition("leave", "open", "closed", "is_empty", "count"),
        ),
    ),
    "two guards that may agree, where a third decides": Pair(
        lambda: plain(row("melt", "solid", None, "is_hot"), row("melt", "solid", "solid", "is_warm")),
        ("FSM104 melt in solid",),
        lambda: plain(
            row("melt", "solid", None, "is_hot"), row("melt", "solid", "solid", "is_warm", unless=["is_hot"])
        ),
    ),
    "a general row before a special one": Pair(
        lambda: plain(row("melt", "solid", None, "is_hot"), row("melt", "solid", "solid", "is_hot", "is_warm")),
        ("FSM105 melt: solid -> solid [is_hot, is_warm]",),
        lambda: plain(row("melt", "solid", "solid", "is_hot", "is_warm"), row("melt", "solid", None, "is_hot")),
        "(melt: solid -> (stays) [is_hot]) before it is taken whenever its guards agree",
    ),
    "a row after one without guards": Pair(
        lambda: plain(row("shake", "solid", None), row("shake", "solid", "solid")),
        ("FSM105 shake: solid -> solid",),
        lambda: plain(row("shake", "solid", None, "is_hot"), row("shake", "solid", "solid")),
        "(shake: solid -> (stays)) before it has no guard",
    ),
    "a row after two that leave nothing over": Pair(
        lambda: plain(
            row("shake", "solid", None, "is_hot"),
            row("shake", "solid", "liquid", unless=["is_hot"]),
            row("shake", "solid", "solid", "is_warm"),
        ),
        ("FSM105 shake: solid -> solid [is_warm]",),
        lambda: plain(
            row("shake", "solid", None, "is_hot", "is_warm"),
            row("shake", "solid", "liquid", "is_warm"),
            row("shake", "solid", "solid", unless=["is_hot", "is_warm"]),
        ),
        "one of the rows before it is taken",
    ),
    "an activity that fires a trigger which does not exist": Pair(
        lambda: shop(Transition("done", "open", "closed"), while_open=fires_dome),
        ("FSM106 dome in open",),
        lambda: shop(Transition("done", "open", "closed"), while_open=opens_it),
        "while_open() says that it fires 'dome', and no row is for that (did you mean 'done'?)",
    ),
    "an activity that fires what its state does not handle": Pair(
        lambda: shop(while_closed=says_leave),
        ("FSM107 leave in closed",),
        lambda: shop(while_open=says_leave),
        "while_closed() says that it fires 'leave', and 'closed' handles only 'enter', 'fault'",
    ),
    "an activity that does not say what it fires": Pair(
        lambda: shop(while_closed=says_leave),
        ("FSM107 leave in closed",),
        lambda: shop(while_closed=says_nothing),
    ),
    "an activity that returns a misspelt trigger": Pair(
        lambda: inserted(while_authenticating=returns_misspelt),
        ("FSM106 authentcated in authenticating",),
        lambda: inserted(while_authenticating=returns_authenticated),
        "while_authenticating() returns 'authentcated', and no row is for that (did you mean 'authenticated'?)",
    ),
    "an activity that returns a misspelt trigger by a name": Pair(
        lambda: shop(while_open=returns_gone),
        ("FSM106 leaf in open",),
        lambda: shop(while_open=returns_done),
    ),
    "an activity that returns another state's trigger": Pair(
        lambda: inserted(while_authenticating=returns_lost),
        ("FSM107 lost in authenticating",),
        lambda: inserted(while_authenticating=returns_open_failed),
        "while_authenticating() returns 'lost', and 'authenticating' handles only",
    ),
    "a state that waits for an activity": Pair(
        lambda: shop(
            Transition("done", ("open", "busy"), "closed"),
            Transition("work", "open", "busy"),
            states=("busy",),
            while_open=opens_it,
        ),
        ("FSM108 busy",),
        lambda: shop(
            Transition("done", ("open", "busy"), "closed"),
            Transition("work", "open", "busy"),
            Transition("stop", "busy", "closed"),
            states=("busy",),
            while_open=opens_it,
            while_busy=rests,
        ),
        "nothing fires what leads on from 'busy': 'done'; it has no activity",
    ),
    "a state that waits for an activity, or for a method": Pair(
        waiting_for_done,
        ("FSM108 busy",),
        lambda: waiting_for_done(done=lambda self: self.fire("done")),
    ),
    "a row for a state without the activity that fires it": Pair(
        lambda: shop(Transition("done", ("closed", "open"), "closed"), while_open=opens_it),
        ("FSM113 done in closed",),
        lambda: shop(Transition("done", "*", "closed"), while_open=opens_it),
        "only activities fire 'done', which 'closed' handles, and it has none",
    ),
    "a circle of activities": Pair(
        circle,
        ("FSM109 closed|open",),
        lambda: circle(timer="opening_hours"),
        "activities fire what leads from 'closed', 'open' round again",
    ),
    "a circle of activities that a guard may end": Pair(
        circle, ("FSM109 closed|open",), lambda: circle(Transition("leave", "open", None, "is_late"))
    ),
    "a lost link that is opened again at once": Pair(
        lambda: connection_always_restarted("connecting"),
        ("FSM109 connecting|connected",),
        lambda: connection_always_restarted("reconnecting"),
    ),
    "a guard that the model has not": Pair(
        lambda: plain(row("melt", "solid", "liquid", "is_hott")),
        ("FSM110 is_hott",),
        lambda: plain(row("melt", "solid", "liquid", "is_hot")),
        "Model has no 'is_hott' (did you mean 'is_hot'?), the callback of melt in solid",
    ),
    "callbacks that the model has not, in every place": Pair(
        lambda: plain(
            row("shake", "solid", None, prepare="a1", before="a2", after="a3", unless="a4"),
            states=({"name": "solid", "on_enter": "a5", "on_exit": "a6"}, "liquid"),
            prepare_event="a7",
            finalize_event=["a8", "a9"],
        ),
        tuple(f"FSM110 a{number}" for number in range(1, 10)),
        lambda: plain(
            row("shake", "solid", None, prepare="sweat", before="math.floor", after="shake", unless="is_warm"),
            states=({"name": "solid", "on_enter": tidy, "on_exit": "sweat"}, "liquid"),
            prepare_event="sweat",
            finalize_event=["sweat", print],
        ),
    ),
    "a callback of a nested state": Pair(
        lambda: plain(
            states=(
                "solid",
                {"name": "liquid", "initial": "still", "children": [{"name": "still", "on_enter": "gone"}]},
            ),
            kind=HierarchicalMachine,
        ),
        ("FSM110 gone",),
        lambda: plain(
            states=(
                "solid",
                {"name": "liquid", "initial": "still", "children": [{"name": "still", "on_enter": "sweat"}]},
            ),
            kind=HierarchicalMachine,
        ),
        "state 'still'",
    ),
    "a link that nobody has opened": Pair(
        lambda: connection(Transition("adopt", "disconnected", "connected")),
        ("FSM111 adopt: disconnected -> connected",),
        lambda: connection(
            Transition("adopt", "disconnected", "connecting", effects=("begin_outage", "count_attempt"))
        ),
        "there is no link when 'adopt' leads from 'disconnected' to 'connected', which owns one",
    ),
    "a link that an attempt has not opened yet": Pair(
        lambda: connection(Transition("hurry", "connecting", "connected")),
        ("FSM111 hurry: connecting -> connected",),
        lambda: connection(Transition("hurry", "connecting", None)),
    ),
    "a link that an error has prevented": Pair(
        lambda: replaced("open_failed", Transition("open_failed", ("connecting", "reconnecting"), "connected")),
        ("FSM111 open_failed: connecting|reconnecting -> connected",),
        lambda: replaced("open_failed", Transition("open_failed", ("connecting", "reconnecting"), "failed")),
    ),
    "a link that stays open": Pair(
        lambda: connection(*PAUSE, states=("paused",)),
        ("FSM111 pause: connected -> paused",),
        lambda: connection(*PAUSE, states=("paused",), while_paused=tidy),
        "the link of 'connected' stays open in 'paused', for all that its activity's code shows",
    ),
    "an activity that no longer releases": Pair(
        lambda: connection(while_failed=lets_it_be),
        (
            "FSM111 fault: connected|renewing -> failed",
            "FSM111 lost: connected|renewing -> failed",
            "FSM111 probe_failed: connected -> failed [is_unhealthy]",
        ),
        lambda: connection(while_failed=releases, _tidy=tidy),
    ),
    "an activity that only calls through the link": Pair(
        lambda: connection(*PAUSE, states=("paused",), while_paused=calls),
        ("FSM111 pause: connected -> paused",),
        lambda: connection(*PAUSE, states=("paused",), while_paused=closes_by_hand),
    ),
    "an activity that releases in a function elsewhere": Pair(
        lambda: connection(*PAUSE, states=("paused",), while_paused=wrapped(lets_it_be)),
        ("FSM111 pause: connected -> paused",),
        lambda: connection(*PAUSE, states=("paused",), while_paused=wrapped(releases), _tidy=tidy),
    ),
    "a state that cannot be disconnected": Pair(
        without_a_way_out,
        ("FSM112 paused",),
        lambda: connection(*PAUSE, states=("paused",), while_paused=tidy),
        "'paused' does not handle 'disconnect'",
    ),
    "an inserted state whose activity was forgotten": Pair(
        inserted,
        ("FSM117 authenticating",),
        lambda: inserted(while_authenticating=says_nothing),
        "nobody watches the link in 'authenticating', which has no activity",
    ),
    "an inserted state that waits for something else": Pair(
        lambda: inserted(while_authenticating=asks_elsewhere),
        ("FSM117 authenticating",),
        lambda: inserted(while_authenticating=asks_the_peer),
    ),
    "a state beside connected whose activity was forgotten": Pair(
        beside,
        ("FSM117 paused",),
        lambda: beside(while_paused=watches),
    ),
    "a state beside connected that waits for something else": Pair(
        lambda: beside(while_paused=says_leave_later),
        ("FSM117 paused",),
        lambda: beside(while_paused=waits_for_either, _either=either),
        "while_paused() waits, and neither for the loss of the link nor for an answer through it",
    ),
    "a connection that no longer watches its link": Pair(
        lambda: connection(while_connected=says_leave_later),
        ("FSM117 connected",),
        lambda: connection(while_connected=watches_as_ever),
    ),
    "an attempt that is not counted": Pair(
        lambda: connection(Transition("expired", "connected", "reconnecting")),
        ("FSM114 expired: connected -> reconnecting",),
        lambda: connection(
            Transition("expired", "connected", "reconnecting", effects="begin_again"),
            begin_again=lambda self, reason: self.count_attempt(reason),
        ),
    ),
    "a further attempt that is not counted": Pair(
        lambda: replaced("open_failed", Transition("open_failed", ("connecting", "reconnecting"), "reconnecting")),
        ("FSM114 open_failed: connecting|reconnecting -> reconnecting",),
        lambda: replaced(
            "open_failed",
            Transition("open_failed", ("connecting", "reconnecting"), "reconnecting", effects="count_attempt"),
        ),
    ),
    "an attempt that was counted before": Pair(
        lambda: looking(effects=()),
        ("FSM114 connect: disconnected|failed -> connecting",),
        lambda: looking(effects=("begin_outage", "count_attempt")),
    ),
    "an attempt that is not counted on the way through a state of rest": Pair(
        lambda: connection(*parked(), states=("parked",), while_parked=tidy),
        ("FSM114 wake: parked -> reconnecting",),
        lambda: connection(*parked(wake=BEGIN), states=("parked",), while_parked=tidy),
    ),
    "an attempt that was counted on the way to a state of rest": Pair(
        lambda: connection(*parked(), states=("parked",), while_parked=tidy),
        ("FSM114 wake: parked -> reconnecting",),
        lambda: connection(*parked(park=BEGIN), states=("parked",), while_parked=tidy),
    ),
    "an attempt that is counted on one way of two": Pair(
        lambda: connection(*parked(park=BEGIN), LEAVE, states=("parked",), while_parked=tidy),
        ("FSM114 wake: parked -> reconnecting",),
        lambda: connection(
            *parked(park=BEGIN), attrs.evolve(LEAVE, effects=("count_attempt",)), states=("parked",), while_parked=tidy
        ),
    ),
    "an attempt that is not counted through two states of rest": Pair(
        lambda: connection(*asleep(), states=("parked", "asleep"), while_parked=tidy),
        ("FSM114 wake: asleep -> reconnecting",),
        lambda: connection(*asleep(doze=("count_attempt",)), states=("parked", "asleep"), while_parked=tidy),
    ),
    "an attempt that may be counted in the state of rest": Pair(
        lambda: connection(*parked(), Transition("tick", "parked", None), states=("parked",), while_parked=tidy),
        ("FSM114 wake: parked -> reconnecting",),
        lambda: connection(
            *parked(), Transition("tick", "parked", None, effects=BEGIN), states=("parked",), while_parked=tidy
        ),
    ),
    "a guard whose name is misspelt": Pair(
        lambda: connection(may_rety=may_rety),
        ("FSM115 may_rety",),
        lambda: connection(may_rety=may_rety, is_unhealthy=is_asked),
        "nothing calls Mine.may_rety(); did you mean 'may_retry'?",
    ),
    "a guard that is overridden": Pair(
        lambda: connection(may_rety=may_rety),
        ("FSM115 may_rety",),
        lambda: connection(may_retry=may_rety, has_failed=may_rety),
    ),
    "a guard that forgot its return": Pair(
        lambda: shop(Transition("leave", "open", None, "is_busy"), is_busy=forgets_to_answer),
        ("FSM118 is_busy",),
        lambda: shop(Transition("leave", "open", None, "is_busy"), is_busy=answers_at_times),
        "is_busy() returns nothing, which means no",
    ),
    "a plain machine's guard that forgot its return": Pair(
        lambda: plain(row("heat", "liquid", "solid", forgets_to_answer)),
        ("FSM118 forgets_to_answer",),
        lambda: plain(row("heat", "liquid", "solid", answers_at_times)),
    ),
    "an activity that may fire nothing": Pair(
        lambda: shop(while_open=leaves_or_forgets),
        ("FSM119 open",),
        lambda: shop(while_open=leaves_or_says_so),
        "while_open() says that it fires 'leave', and can return None",
    ),
    "an activity that hangs on to what suppress swallows": Pair(
        lambda: shop(while_open=leaves_unless_suppressed),
        ("FSM119 open",),
        lambda: shop(while_open=leaves_in_time),
    ),
    "a time limit that nothing sets": Pair(
        lambda: shop(
            Transition("late", "open", "closed"), replacing_state=State("open", timeout="opne_for", on_timeout="late")
        ),
        ("FSM120 open",),
        lambda: shop(
            Transition("late", "open", "closed"),
            replacing_state=State("open", timeout="open_for", on_timeout="late"),
            open_for=3.0,
        ),
        "the time limit of 'open' is 'opne_for', which nothing sets",
    ),
    "a time limit that another class sets, or only declares": Pair(
        lambda: shop(
            Transition("late", "open", "closed"), replacing_state=State("open", timeout="patience_", on_timeout="late")
        ),
        ("FSM120 open",),
        lambda: shop(
            Transition("late", "open", "closed"),
            replacing_state=State("open", timeout="patience", on_timeout="late"),
            set_up=sets_patience,
        ),
    ),
    "a state that its time limit ends, and no activity": Pair(
        lambda: shop(Transition("late", "open", "closed"), replacing="leave", while_closed=says_late),
        ("FSM107 late in closed",),
        lambda: shop(
            Transition("late", "open", "closed"),
            replacing="leave",
            replacing_state=State("open", timeout=2, on_timeout="late"),
        ),
    ),
    "an attempt that is counted when a state is entered": Pair(
        lambda: connection(*parked(), states=("parked",), while_parked=tidy),
        ("FSM114 wake: parked -> reconnecting",),
        lambda: connection(*parked(), states=(State("parked", entry=BEGIN),), while_parked=tidy),
    ),
    "a plain machine's row to nowhere": Pair(
        lambda: plain(row("heat", "liquid", "gass"), states=("solid", "liquid", "gas")),
        ("FSM116 heat: liquid -> gass",),
        lambda: plain(row("heat", "liquid", "gas"), row("cool", "gas", "solid"), states=("solid", "liquid", "gas")),
        "there is no state 'gass' (did you mean 'gas'?)",
    ),
}
