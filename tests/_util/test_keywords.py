"""Wrong keywords find the right ones, and `help` of a setting shows its fields."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import surface

import fsm_conn
from fsm_conn import (
    AutoReconnectClient,
    CallOptions,
    Connection,
    ConnectionPool,
    Endpoint,
    HealthPolicy,
    Plugin,
    PoolPolicy,
    Reattach,
    RetryBudget,
    RetryPolicy,
    State,
    Tls,
    Transition,
    checks,
    diagrams,
    testing,
)
from fsm_conn._util import keywords
from fsm_conn._util.keywords import WORDS, explained_class, named, taken_by

SETTINGS = (CallOptions, Endpoint, HealthPolicy, Plugin, PoolPolicy, Reattach, RetryPolicy, Tls)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda **wrong: RetryPolicy(**wrong), "base_delay: RetryPolicy(base_delay=...): give initial_delay=..."),
        (lambda **wrong: RetryPolicy(**wrong), "max_retries: RetryPolicy(max_retries=...): give max_attempts=..."),
        (lambda **wrong: RetryPolicy(**wrong), "max_atempts: RetryPolicy(max_atempts=...): give max_attempts=..."),
        (lambda **wrong: HealthPolicy(**wrong), "period: HealthPolicy(period=...): give interval=..."),
        (lambda **wrong: CallOptions(**wrong), "deadline: CallOptions(deadline=...): give timeout=..."),
        (lambda **wrong: Tls(**wrong), "color: Tls(color=...): it takes roots, certificate, key"),
        (lambda **wrong: Plugin(["x"], **wrong), "environment: Plugin(environment=...): give env=..."),
        (lambda **wrong: Connection(["x"], **wrong), "retry_policy: Connection(retry_policy=...): give retry=..."),
        (lambda **wrong: Connection(["x"], **wrong), "health_policy: Connection(health_policy=...): give health=..."),
        (
            lambda **wrong: Connection(["x"], **wrong),
            "restart_limit: Connection(restart_limit=...): give retry=RetryPolicy(max_restarts=...)",
        ),
        (
            lambda **wrong: AutoReconnectClient(["x"], **wrong),
            "initial_backoff: AutoReconnectClient(initial_backoff=...): give retry=RetryPolicy(initial_delay=...)",
        ),
        (
            lambda **wrong: Connection("h:1", **wrong),
            "interceptors: Connection(interceptors=...): give Endpoint(address, interceptors=...) as the target",
        ),
        (
            lambda **wrong: ConnectionPool(["x"], **wrong),
            "standby: ConnectionPool(standby=...): give policy=PoolPolicy(standby=...)",
        ),
        (
            lambda **wrong: ConnectionPool(["x"], **wrong),
            "base_delay: ConnectionPool(base_delay=...): give retry=RetryPolicy(initial_delay=...)",
        ),
        (
            lambda **wrong: Connection("h:1", **wrong),
            "port: Connection(port=...): give target=...: one string, such as 'localhost:50051'",
        ),
        (
            lambda **wrong: Connection(["x"], **wrong),
            "drain_timeout: Connection(drain_timeout=...): give drain_timeout=... as an attribute of a subclass of Connection",
        ),
        (lambda **wrong: RetryBudget(1, **wrong), "leases: RetryBudget(leases=...): it takes rate, burst"),
        (
            lambda **wrong: Tls(**wrong),
            "ready_timeout: Tls(ready_timeout=...): that is HealthPolicy(ready_timeout=...); it takes roots, certificate, key",
        ),
        (lambda **wrong: Connection(**wrong), "command: Connection(command=...): give target=..."),
        (
            lambda **wrong: Plugin(["x"], **wrong),
            "cookie: Plugin(cookie=...): give env=...: the cookie is a variable of the plugin's environment",
        ),
        (lambda **wrong: PoolPolicy(**wrong), "recycle: PoolPolicy(recycle=...): give max_lifetime=..."),
        (lambda **wrong: RetryBudget(1, **wrong), "max_tokens: RetryBudget(max_tokens=...): give burst=..."),
        (lambda **wrong: State("a", **wrong), "on_enter: State(on_enter=...): give entry=..."),
        (lambda **wrong: Transition("t", "a", "b", **wrong), "conditions: Transition(conditions=...): give guards=..."),
    ],
)
def test_a_wrong_keyword_finds_the_right_one(make: Callable[..., Any], told: str) -> None:
    """By the words that others have for it, by the place where it belongs, or the nearest name."""
    wrong, _, text = told.partition(": ")
    with pytest.raises(TypeError) as caught:
        make(**{wrong: 1})
    assert str(caught.value) == text


def _public_classes() -> dict[str, type]:
    """Those of all rooms whose constructors take something; of two with one name, that of the first room."""
    found: dict[str, type] = {}
    for package in surface.packages():
        module = importlib.import_module(package)
        things = {name: getattr(module, name) for name in module.__all__}
        found = {name: each for name, each in things.items() if inspect.isclass(each)} | found
    return {name: each for name, each in found.items() if not issubclass(each, BaseException) and any(taken_by(each))}


PUBLIC = _public_classes()
_CALL = re.compile(r"(?:(\w+)=)?(\w+)\((?:\w+, )?(\w+)=\.\.\.\)(?: as the target| with a call)?")
_OWN = re.compile(r"(\w+)=\.\.\.( as an attribute of a subclass of Connection)?")


def _takes(owner: type) -> set[str]:
    """What may be given to a class; a pool and a client pass to a connection what is not for them."""
    passes_on = any(
        "options" in inspect.signature(vars(each).get("__init__", owner)).parameters for each in owner.__mro__[:-1]
    )
    return {
        *taken_by(owner),
        *(taken_by(Connection) if passes_on else ()),
        *(taken_by(ConnectionPool) if passes_on else ()),
    }


def _explains(owner: type) -> bool:
    return hasattr(owner.__init__, "__wrapped__") or issubclass(owner, ConnectionPool)


@pytest.mark.parametrize("name", [name for name, owner in PUBLIC.items() if _explains(owner)])
def test_a_keyword_of_something_else_is_told_a_place_that_takes_it(name: str) -> None:
    """Whichever public class it belongs to: no advice names a place that refuses it, or one that is only named like it."""
    owner = PUBLIC[name]
    needed = [each for each in named(owner.__init__) if _is_needed(owner, each)]
    for keyword in sorted({each for other in keywords._HOMES.values() for each in named(other)} - _takes(owner)):
        with pytest.raises(TypeError) as caught:
            owner(**{each: ["x"] for each in needed}, **{keyword: 1})
        told = str(caught.value).partition("=...): ")[2]
        for advised in re.sub(r"; it takes .*|: one string.*|: the cookie.*", "", told).split(" or "):
            _check_advice(owner, keyword, advised.removeprefix("give ").removeprefix("that is "))


def _is_needed(owner: type, keyword: str) -> bool:
    return inspect.signature(owner).parameters[keyword].default is inspect.Parameter.empty


def _check_advice(owner: type, keyword: str, advised: str) -> None:
    assert not advised.startswith("it takes "), "it is a keyword of something"
    if call := _CALL.fullmatch(advised):
        given_as, home, word = call.groups()
        assert word in _takes(PUBLIC[home])
        assert given_as is None or given_as in _takes(owner)
    else:
        own = _OWN.fullmatch(advised)
        assert own is not None, advised
        word = own[1]
        assert hasattr(Connection, word) if own[2] else word in _takes(owner)
    assert word in (keyword, *WORDS.get(keyword, ())), f"{word} is only like {keyword}"


def test_values_without_names_are_told_which_to_name() -> None:
    """By the names that are taken."""
    with pytest.raises(TypeError, match=r"^RetryBudget\(\): give these by name: burst$"):
        RetryBudget(20, 40)  # type: ignore[misc]
    with pytest.raises(TypeError, match=r"^CallOptions\(\): give these by name: timeout, "):
        CallOptions(3)  # type: ignore[misc]


def test_a_timeout_may_be_meant_in_three_ways() -> None:
    """All are told."""
    told = "start_timeout=... or CallOptions(timeout=...) with a call or health=HealthPolicy(timeout=...)"
    with pytest.raises(TypeError) as caught:
        Connection(["x"], timeout=1)  # type: ignore[call-arg]
    assert str(caught.value) == f"Connection(timeout=...): give {told}"


def test_other_errors_pass_as_they_are() -> None:
    """Of a value that is wrong, and of code that is called with a wrong keyword inside."""
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'target'"):
        Connection()  # type: ignore[call-arg]

    def broken(value: object) -> object:
        return dict.fromkeys([value], wrong=1)  # type: ignore[call-overload]

    @explained_class
    @attrs.frozen
    class Setting:
        value: object = attrs.field(converter=broken)

    with pytest.raises(TypeError, match=r"fromkeys\(\) takes no keyword arguments"):
        Setting(1)


def test_all_words_lead_somewhere() -> None:
    """Each is one that some setting or constructor takes."""
    taken = {name for each in (*SETTINGS, State, Transition) for name in attrs.fields_dict(each)}
    taken |= {*inspect.signature(RetryBudget).parameters, *inspect.signature(Connection).parameters}
    taken |= {*inspect.signature(ConnectionPool).parameters}
    functions = (
        testing.explore,
        testing.random_lives,
        testing.pool_test,
        *(each.values[0] for each in _with_options()),
    )
    taken |= {name for each in functions for name in inspect.signature(each).parameters}
    assert {word for words in WORDS.values() for word in words} <= taken
    assert all(name in inspect.signature(RetryPolicy).parameters for name in ("max_attempts", "deadline"))


@pytest.mark.parametrize("setting", SETTINGS)
def test_help_shows_the_fields(setting: type) -> None:
    """Each with its type, its default and what it means."""
    text = pydoc.plain(pydoc.render_doc(setting))
    for name, field in attrs.fields_dict(setting).items():
        assert f"{name}: {field.type}" in text
    assert fsm_conn.RetryPolicy.__doc__ is not None
    assert "max_attempts: int | None = 5\n        Attempts to open" in fsm_conn.RetryPolicy.__doc__


def test_a_class_without_source_has_its_own_docstring() -> None:
    """Nothing is wrong with that."""
    space: dict[str, Any] = {"attrs": attrs, "explained_class": explained_class}
    exec('@explained_class\n@attrs.frozen\nclass Made:\n    "Its own."\n    field: int = 1', space)
    assert space["Made"].__doc__ == "Its own."


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: Connection(["x"]).connect(timeout=1),  # type: ignore[call-arg]
            "Connection.connect(timeout=...): give 'async with asyncio.timeout(seconds):' around it or Connection(target, ",
        ),
        (
            lambda: Connection(["x"]).disconnect(timeout=1),  # type: ignore[call-arg]
            "Connection.disconnect(timeout=...): give 'async with asyncio.timeout(seconds):' around it",
        ),
        (lambda: Connection(["x"]).disconnect(force=1), "Connection.disconnect(force=...): it takes no keywords"),  # type: ignore[call-arg]
        (lambda: Connection(["x"]).probe(deadline=1), "Connection.probe(deadline=...): give timeout=..."),  # type: ignore[call-arg]
        (lambda: ConnectionPool(["x"]).close_all(grace=1), "ConnectionPool.close_all(grace=...): give timeout=..."),  # type: ignore[call-arg]
        (lambda: ConnectionPool(["x"]).resize(size=1), "ConnectionPool.resize(size=...): give pool_size=..."),  # type: ignore[call-arg]
        (lambda: diagrams.diagram(Connection, fmt="svg"), "diagram(fmt=...): give format=..."),  # type: ignore[call-overload]
        (lambda: testing.explore(Connection, steps=3), "explore(steps=...): give depth=..."),
        (lambda: testing.lifecycle_test(Connection, examples=3), "lifecycle_test(examples=...): give max_examples=..."),
        (
            lambda: testing.pool_test(ConnectionPool, size=3),
            "pool_test(size=...): that is PoolPolicy(size=...); it takes ",
        ),
        (lambda: testing.Life(Connection, timeout=3), "Life(timeout=...): give start_timeout=..."),  # type: ignore[call-arg]
        (lambda: checks.check(Connection, ignore={}), "check(ignore=...): give accept=..."),  # type: ignore[call-arg]
        (
            lambda: fsm_conn.add_state(Connection, "x", after="connected"),  # type: ignore[call-arg]
            "add_state(after=...): give beside=...",
        ),
    ],
)
def test_functions_and_methods_explain_a_wrong_keyword_too(call: Callable[[], Any], told: str) -> None:
    """What waits explains it when it is awaited."""
    with pytest.raises(TypeError) as raised:
        called = call()
        if inspect.isawaitable(called):
            called.__await__().send(None)  # type: ignore[attr-defined]
    assert str(raised.value).startswith(told)


UNEXPLAINED = {
    *("fire", "acquire", "ensure_connected", "mark_lost", "lose"),  # called too often to be wrapped
    *("Life", "MachineLife", "PoolLife", "Walk", "Report"),  # the steps of a life, and what our tools ask for
    *(
        "Broker",
        "BrokeredService",
        "Link",
        "DriverLink",
        "SimulatedLink.probe",
        "SimulatedLink.watch",
        "VirtualLoop",
    ),  # contracts
    "main",
}
"""Whose wrong keywords are left to Python's own words."""


def _with_options() -> list[Any]:
    """The public functions and methods that take options, and that Python's own words explain."""
    found = []
    for package in surface.packages():
        module = importlib.import_module(package)
        for name in module.__all__:
            thing = getattr(module, name)
            own = {name: thing} if inspect.isfunction(thing) else surface._own(thing) if inspect.isclass(thing) else {}
            for each, member in own.items():
                function = member.__func__ if isinstance(member, (staticmethod, classmethod)) else member
                if each.startswith("_") or UNEXPLAINED & {name, each, f"{name}.{each}"}:
                    continue
                if inspect.isfunction(function) and _options_of(function):
                    found.append(pytest.param(function, id=f"{package}.{name}.{each}"))
    return found


def _options_of(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return []
    return [each.name for each in parameters if each.kind is each.KEYWORD_ONLY or each.default is not each.empty]


@pytest.mark.parametrize("function", _with_options())
def test_nothing_public_that_takes_options_leaves_a_wrong_one_unexplained(function: Any) -> None:
    """Save what is called too often to be wrapped, and contracts that users fulfil."""
    needed = [each for each in inspect.signature(function).parameters.values() if each.default is each.empty]
    args = [object() for each in needed if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    with pytest.raises(TypeError, match=r"\(no_such_thing=\.\.\.\): it takes "):
        called = function(*args, **{each.name: 1 for each in needed if each.kind is each.KEYWORD_ONLY}, no_such_thing=1)
        called.__await__().send(None)
