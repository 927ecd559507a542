"""How a peer is asked whether it serves, each decision alone: links that answer as a test says."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fsm_conn import HealthPolicy, HealthStatus, Link, LinkLostError, NotServingError
from fsm_conn.connection.calling.traffic import Traffic
from fsm_conn.connection.prober import READY_TIMEOUT, Prober, Probes, ask, until_ready
from fsm_conn.links.errors import ProbeError, ProbeTimeoutError


def now() -> float:
    return asyncio.get_running_loop().time()


class Asked(Link):
    """Answers probes one after the other; the last answer is repeated. HANG: no answer."""

    HANG = "hang"

    def __init__(self, *answers: Any, warms_up: bool = False) -> None:
        self.answers = list(answers)
        self.may_warm_up = warms_up
        self.probes: list[tuple[float, str]] = []
        self.watched: list[str] = []
        self.gone: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.ignores = False

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def lost(self) -> Exception:
        while True:
            try:
                return await asyncio.shield(self.gone)
            except asyncio.CancelledError:
                if not self.ignores:
                    raise

    async def probe(self, service: str = "") -> bool:
        self.probes.append((now(), service))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == self.HANG:
            await asyncio.sleep(1e6)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    async def watch(self, service: str = "") -> AsyncIterator[bool]:
        self.watched.append(service)
        while True:
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                if not self.ignores:
                    raise
        yield True


WARMING, SILENT = NotServingError("not yet"), Asked.HANG


def policy(**options: Any) -> HealthPolicy:
    return HealthPolicy(**{"interval": 10.0, "timeout": 2.0, "service": "a.B", **options})


# --- one probe ------------------------------------------------------------------------------------------------------------


def test_nothing_is_known_before_the_first_probe() -> None:
    """Of a link that was not probed."""
    new = Probes()
    assert (new.status, new.failed, new.counted) == (HealthStatus.UNKNOWN, 0, 0)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (True, HealthStatus.SERVING),
        (False, HealthStatus.UNSUPPORTED),
        (WARMING, HealthStatus.NOT_SERVING),
        (ProbeError("broken"), HealthStatus.NO_ANSWER),
    ],
)
async def test_what_an_answer_means(answer: Any, status: HealthStatus) -> None:
    """At once, by one probe of the service."""
    link = Asked(answer)
    found = await ask(link, "a.B", 2.0, "plug")
    assert found == (status, answer if isinstance(answer, Exception) else None)
    assert link.probes == [(0.0, "a.B")]


async def test_no_answer_is_named_with_its_limit() -> None:
    """The loop was not blocked: one probe is enough."""
    link = Asked(SILENT)
    status, error = await ask(link, "a.B", 2.0, "plug")
    assert (status, str(error), len(link.probes)) == (
        HealthStatus.NO_ANSWER,
        "plug: no answer to a health probe within 2 s",
        1,
    )
    assert isinstance(error, ProbeTimeoutError)


# --- until it serves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("warms_up", "options", "limit"),
    [
        (False, {}, None),
        (True, {"interval": None}, None),
        (True, {}, READY_TIMEOUT),
        (True, {"ready_timeout": 5.0}, 5.0),
        (False, {"ready_timeout": 5.0}, 5.0),
        (False, {"ready_timeout": 5.0, "interval": None}, 5.0),
        (True, {"ready_timeout": 0.0}, None),
    ],
)
async def test_how_long_a_peer_is_waited_for(warms_up: bool, options: Any, limit: float | None) -> None:
    """As the policy says; or for a minute, if it may be warming up and is probed at all."""
    link = Asked(WARMING, warms_up=warms_up)
    if limit is None:
        await until_ready(link, policy(**options), "plug")
        assert link.probes == []
        return
    with pytest.raises(NotServingError) as told:
        await until_ready(link, policy(**options), "plug")
    assert str(told.value) == f"it did not report that it serves within {limit:g} s (ready_timeout)"
    assert (now(), len(link.probes), told.value.__cause__) == (limit, limit * 4, None)
    assert {service for _, service in link.probes} == {"a.B"}


@pytest.mark.parametrize(
    ("answers", "ready_timeout", "ready_at"),
    [
        ([True], None, 0.0),
        ([False], None, 0.0),
        ([WARMING, True], None, 0.25),
        ([WARMING, WARMING, False], None, 0.5),
        ([SILENT, True], None, 2.0),
        ([SILENT, True], 50.0, 2.25),
        ([WARMING, SILENT, True], None, 2.5),
        ([ProbeError("broken")], 50.0, 0.0),
    ],
)
async def test_when_a_peer_is_ready(
    answers: Any, ready_timeout: Any, ready_at: float, caplog: pytest.LogCaptureFixture
) -> None:
    """A silent one is waited for if the policy says so, or if it has said before that it is not ready; which is logged."""
    caplog.set_level(logging.INFO)
    link = Asked(*answers, warms_up=True)
    await until_ready(link, policy(ready_timeout=ready_timeout), "plug")
    assert now() == pytest.approx(ready_at)
    first, limit = answers[0], 60 if ready_timeout is None else 50
    waits = first is WARMING or (first == SILENT and ready_timeout is not None)
    why = "not yet" if first is WARMING else "plug: no answer to a health probe within 2 s"
    said = f"plug: not ready yet ({why}): waiting for {limit} s at most (ready_timeout)"
    assert caplog.messages == [said] * waits


async def test_a_peer_that_is_lost_meanwhile_is_not_waited_for() -> None:
    """Its loss is raised."""
    link = Asked(WARMING, warms_up=True)
    asyncio.get_running_loop().call_later(1, link.gone.set_result, LinkLostError("gone"))
    with pytest.raises(LinkLostError, match="gone"):
        await until_ready(link, policy(), "plug")
    assert now() == 1.0


# --- the loop of probes ---------------------------------------------------------------------------------------------------


def prober(link: Link, probe: Any, **options: Any) -> Prober:
    return Prober(policy(jitter=0.0, **options), link, Traffic(0.0), probe, random.Random(1))


async def test_a_peer_is_probed_until_its_link_is_lost() -> None:
    """At the interval; its announcements of that service are heard; and nothing goes on afterwards."""
    link, probed = Asked(True), []

    async def probe() -> None:
        probed.append(now())

    asyncio.get_running_loop().call_later(35, link.gone.set_result, LinkLostError("gone"))
    assert str(await prober(link, probe).until_lost()) == "gone"
    assert (now(), probed, link.watched) == (35.0, [10.0, 20.0, 30.0], ["a.B"])
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_of_a_probe_ends_the_loop() -> None:
    """It is raised as it is, once all else has ended."""

    async def probe() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await prober(Asked(True), probe).until_lost()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_probe_that_is_cancelled_has_its_time_to_end() -> None:
    """Whatever it raises then, the loss is what counts."""
    link, ended = Asked(True), []

    async def probe() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(1)
            ended.append(now())
            raise ZeroDivisionError

    asyncio.get_running_loop().call_later(15, link.gone.set_result, LinkLostError("gone"))
    assert str(await prober(link, probe).until_lost()) == "gone"
    assert ended == [16.0]


async def test_the_log_names_what_ignores_its_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    """The link, and its method."""

    async def probe() -> None:
        link.ignores = True
        raise ZeroDivisionError

    link = Asked(True)
    with pytest.raises(ZeroDivisionError):
        await prober(link, probe).until_lost()
    text = "ignores its cancellation and is left behind; let CancelledError pass in it"
    assert sorted(caplog.messages) == [f"{link!r}: lost() {text}", f"{link!r}: watch() {text}"]
    link.ignores = False
    link.gone.set_result(LinkLostError("gone"))


async def test_a_lost_that_is_no_coroutine_is_named() -> None:
    """Whoever wrote the link is told."""

    class Plain(Asked):
        def lost(self) -> Any:
            return 7

    with pytest.raises(TypeError, match=r"Plain.lost\(\) returned 7: make it an 'async def'"):
        await prober(Plain(True), None).until_lost()
