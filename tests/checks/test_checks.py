"""What is wrong is found, by its code, where it is; and what is in order raises no alarm."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from shown_examples import module_of
from transitions import Machine

import fsm_conn.connection.clients  # noqa: F401 (so that its classes exist)
from fsm_conn import Connection, ConnectionPool, Transition
from fsm_conn.checks import RULES, AcceptanceError, Severity, check
from fsm_conn.checks.reach import may_use, names_in
from fsm_conn.machine.chart import ChartError
from fsm_conn.machine.machine import StateMachine

from .broken import PAIRS, Model, Shop, plain, row, shop

EXAMPLES = [
    path
    for path in sorted((Path(__file__).parents[2] / "examples").rglob("*.py"))
    if re.search(r"^class \w+\((Connection|ConnectionPool|StateMachine)\)", path.read_text("utf-8"), re.MULTILINE)
]


def keys(machine: Any, **options: Any) -> tuple[str, ...]:
    return tuple(finding.key for finding in check(machine, **options))


@pytest.mark.parametrize("name", PAIRS)
def test_a_slip_is_found_and_nothing_else_is(name: str) -> None:
    """By its code and place, and with words that name what is wrong."""
    findings = check(PAIRS[name].broken())
    assert tuple(each.key for each in findings) == PAIRS[name].found
    assert any(PAIRS[name].said in each.message for each in findings)
    assert all(each.severity == RULES[each.code].severity for each in findings)
    assert all(each.remedy == RULES[each.code].remedy for each in findings if "has no activity" not in each.message)


def test_a_state_without_activity_is_told_to_have_one() -> None:
    """And not what its activity, which is not there, is to do beside what it does."""
    (finding,) = check(PAIRS["a state beside connected whose activity was forgotten"].broken())
    assert finding.remedy == "Write `while_paused`, and have it wait for `while_connected()` or for `link.lost()`."
    assert "activity" not in RULES["FSM117"].meaning


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_nearly_a_slip_raises_no_alarm(name: str) -> None:
    """The like of it, as it should be."""
    assert check(PAIRS[name].sound()) == ()


def test_guards_that_have_no_name_of_their_own_are_not_taken_for_one_another() -> None:
    """Of two lambdas each may hold when the other does not; what they lead to is as good as any other."""
    tide = Machine(states=["low", "high", "mid"], initial="mid", auto_transitions=False)
    tide.add_transition("turn", "mid", "low", conditions=lambda: False, unless=lambda: False)
    tide.add_transition("turn", "mid", "high", conditions=lambda: True)
    tide.add_transition("ebb", ["low", "high"], "mid")
    assert {each.code for each in check(tide)} == {"FSM104"}  # that both may hold, nobody can rule out


def test_there_is_a_slip_for_each_rule() -> None:
    """And no rule that nothing was ever found by."""
    found = {key.partition(" ")[0] for pair in PAIRS.values() for key in pair.found}
    assert found == set(RULES) - {"FSM199"}  # for which see the acceptances below


def shipped(base: type[StateMachine] = StateMachine) -> list[type[StateMachine]]:
    below = [each for each in base.__subclasses__() if each.__module__.startswith("fsm_conn.")]
    return [*filter(has_table, below), *(each for one in below for each in shipped(one))]


def has_table(machine: type[StateMachine]) -> bool:
    """Whether it is one that can be made, rather than what several have in common."""
    return hasattr(machine, "lifecycle")


def test_the_classes_of_this_package_raise_no_alarm() -> None:
    """All there are."""
    assert {"Connection", "ConnectionPool", "ManagedConnection", "StatefulConnection", "HealthMonitoredClient"} < {
        each.__name__ for each in shipped()
    }
    assert {each: check(each) for each in shipped() if check(each)} == {}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_classes_of_the_examples_raise_no_alarm(path: Path) -> None:
    """They show how it is done."""
    module = module_of(path)
    own = [each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__]
    tables = [each for each in own if issubclass(each, StateMachine)]
    assert tables
    assert [finding for each in tables for finding in check(each)] == []


def test_there_are_examples() -> None:
    """Or the test above would say nothing."""
    assert {"authenticated", "after", "before"} <= {path.stem for path in EXAMPLES}


def test_an_instance_is_checked_as_its_class() -> None:
    """Chart and findings are of the table."""
    assert check(Connection(["true"])) == check(Connection) == ()


def test_what_has_no_table_is_refused() -> None:
    """As by everything that reads tables."""
    with pytest.raises(ChartError, match="has no table"):
        check(3)


def test_of_a_machine_that_begins_nowhere_nothing_is_said_about_ways() -> None:
    """Its models may be put anywhere."""
    machine = Machine(None, ["a", "b"], initial=None, auto_transitions=False)
    machine.add_transition("go", "a", "b", conditions="whatever")
    assert keys(machine) == ("FSM102 b",)


class Knowing(Model):
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Strict(Model):
    @property
    def is_open(self) -> bool:
        raise AssertionError("a check has called a guard")


def test_a_model_that_may_know_any_name_is_believed() -> None:
    """Whatever its `__getattr__` would say."""
    assert keys(plain(row("melt", "solid", None, "x"), model=Knowing())) == ()


def test_nothing_is_called() -> None:
    """A property may be a guard, and is not read for a check."""
    machine = plain(row("melt", "solid", None, "is_open"), model=Strict())
    assert keys(machine) == ()


def test_each_of_many_models_must_have_the_callback() -> None:
    """One that has not is enough to fail."""
    machine = plain(row("melt", "solid", None, "is_hot"))
    assert keys(machine) == ()
    machine.add_model(type("Cold", (), {})())
    assert keys(machine) == ("FSM110 is_hot",)


def test_findings_are_told_once_for_all_states_of_a_row() -> None:
    """Not once for each."""
    both = shop(
        Transition("ring", ("closed", "open"), "open", "is_late"),
        Transition("ring", ("closed", "open"), None, "is_empty"),
        Transition("ring", "*", "closed"),
    )
    assert keys(both) == ("FSM104 ring in closed|open",)


def test_findings_come_in_the_same_order_every_time() -> None:
    """By code, then by place."""
    findings = check(PAIRS["an activity that no longer releases"].broken())
    assert [each.key for each in findings] == sorted(each.key for each in findings)
    assert findings == check(PAIRS["an activity that no longer releases"].broken())


class Unsure(Shop):
    """The first of two guards wins."""

    transitions = (
        Transition("leave", "open", "closed", "is_late"),
        Transition("leave", "open", None, "is_empty"),
        *Shop.transitions,
    )


def test_the_place_in_the_source_is_known() -> None:
    """Of the class; or of the function that a finding is about."""
    (finding,) = check(Unsure)
    assert (finding.file, finding.line) == (__file__, inspect.getsourcelines(Unsure)[1])
    (finding,) = check(PAIRS["an activity that fires a trigger which does not exist"].broken())
    assert finding.file is not None
    assert "async def fires_dome" in Path(finding.file).read_text("utf-8").splitlines()[(finding.line or 0) - 1]


def test_of_what_was_typed_in_no_source_is_known() -> None:
    """And that is no error."""
    space: dict[str, Any] = {"Shop": Shop, "rows": Unsure.transitions, "__name__": "typed_in"}
    exec("class Typed(Shop):\n    transitions = rows", space)
    (finding,) = check(space["Typed"])
    assert (finding.file, finding.line) == (None, None)


# --- what is accepted -------------------------------------------------------------------------------------

KEY = "FSM104 leave in open"


@pytest.mark.parametrize("key", ["FSM104", KEY])
def test_what_is_meant_is_accepted_with_a_reason(key: str) -> None:
    """By a code, or by a code and a place; here or in the class."""
    assert keys(Unsure) == (KEY,)
    assert check(Unsure, accept={key: "who is late has left"}) == ()
    own = type("Own", (Unsure,), {"accepted_findings": MappingProxyType({key: "who is late has left"})})
    assert check(own) == ()


@pytest.mark.parametrize("key", ["FSM105", "FSM104 leave in closed"])
def test_an_acceptance_for_which_nothing_is_found_is_a_finding(key: str) -> None:
    """Or it would hide what comes later."""
    assert keys(Unsure, accept={key: "because"}) == (KEY, f"FSM199 {key}")
    own = type("Own", (Unsure,), {"accepted_findings": {key: "because"}})
    assert keys(own) == (KEY, f"FSM199 {key}")
    assert check(own)[1].severity is Severity.WARNING


def test_what_a_base_accepts_holds_for_subclasses_that_may_have_mended_it() -> None:
    """Only what a class itself says is to be found in it."""
    base = type("Base", (Unsure,), {"accepted_findings": {"FSM104": "because"}})
    assert check(type("Same", (base,), {})) == ()
    assert check(type("Mended", (base,), {"transitions": Shop.transitions})) == ()
    assert keys(type("More", (base,), {"accepted_findings": {"FSM105": "so"}})) == ("FSM199 FSM105",)


@pytest.mark.parametrize(
    ("accept", "message"),
    [
        ({"FSM104": ""}, r"accept: 'FSM104' is accepted without a reason"),
        ({"FSM104": "  "}, r"without a reason; give the reason"),
        ({"FSM104": None}, r"without a reason"),
        ({"FMS104": "x"}, r"there is no finding 'FMS104' \(did you mean 'FSM104'\?\); give a code, such as"),
        ({3: "x"}, r"there is no finding 3"),
        (["FSM104"], r"accept: give a mapping of codes to reasons, not \['FSM104'\]"),
    ],
)
def test_an_acceptance_that_says_nothing_is_refused(accept: Any, message: str) -> None:
    """With the way to say it; in the class too."""
    with pytest.raises(AcceptanceError, match=message):
        check(Unsure, accept=accept)
    with pytest.raises(AcceptanceError, match=message.replace("accept:", "Own.accepted_findings:")):
        check(type("Own", (Unsure,), {"accepted_findings": accept}))


def test_a_plain_machine_may_say_it_too() -> None:
    """In a class of its own."""

    class Mine(Machine):
        accepted_findings = {"FSM110": "the model gets it later"}

    machine = plain(row("melt", "solid", None, "x"), kind=Mine)
    assert check(machine) == ()
    assert keys(machine, accept={"FSM101": "so"}) == ("FSM199 FSM101",)


# --- what a method comes to use -----------------------------------------------------------------------------


def helper(thing: Any) -> None:
    thing.far_away()


class Family:
    def near(self) -> Any:
        return [self.inner() for _ in "x"]

    def inner(self) -> Any:
        def later() -> Any:
            return self.goal

        return later

    @property
    def goal(self) -> int:
        return helper(self) or 3

    def far_away(self) -> None:
        self.gold = 1

    def round_about(self) -> None:
        self.round_about()

    built_in = len


class Heir(Family):
    def near(self) -> Any:
        return super().near()


@pytest.mark.parametrize("owner", [Family, Heir])
def test_names_are_followed_through_the_family_and_the_module(owner: type) -> None:
    """By comprehensions, inner functions, properties, `super()` and functions beside the class."""
    assert may_use(owner, "near", "inner")
    assert may_use(owner, "near", "gold")
    assert may_use(owner, "near", "near")
    assert not may_use(owner, "near", "silver")
    assert not may_use(owner, "round_about", "gold")
    assert may_use(owner, "built_in", "gold")  # nobody can look into it


def test_what_cannot_be_looked_into_names_nothing_that_is_known() -> None:
    assert names_in(len) == names_in(3) == frozenset()


class Careful(Connection):
    """Does what it overrides."""

    async def while_failed(self) -> str | None:
        """And more."""
        return await super().while_failed()

    async def while_connecting(self) -> str:
        """And more."""
        return await super().while_connecting()


class Careless(Connection):
    """Its override does something else."""

    async def while_disconnecting(self) -> str:
        """Close nothing."""
        return "closed"


def test_what_an_override_hands_on_to_is_known() -> None:
    """`super()` is followed."""
    assert check(Careful) == ()
    assert keys(Careless) == ("FSM111 disconnect: connected|renewing -> disconnecting",)


def test_a_pool_is_no_connection() -> None:
    """What is asked of links is not asked of it."""
    assert not any(finding.code in ("FSM111", "FSM112", "FSM114") for finding in check(ConnectionPool))
