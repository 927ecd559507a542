"""How long who asks why a plugin's link was lost waits for the answer: a process that has not ended may still do so."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsm_conn.links.errors import LinkLostError
from fsm_conn.links.plugin.diagnosis import SETTLE
from fsm_conn.links.plugin.link import PluginLink
from fsm_conn.testing import run_virtually


def hanging() -> PluginLink:
    """A link whose process lives on."""
    link: Any = PluginLink(["plugin"])
    exited = asyncio.get_running_loop().create_future()
    link._client = SimpleNamespace(process=SimpleNamespace(exited=exited, pid=7, look=int, diagnostics=str))
    lost: PluginLink = link
    return lost


async def asked(link: PluginLink, at: list[float]) -> list[tuple[float, Exception]]:
    """When each of those who ask at these times, in seconds after the loss, has its answer, and which."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def one(delay: float) -> tuple[float, Exception]:
        await asyncio.sleep(delay)
        reason = await link.lost()
        return loop.time() - began, reason

    link._loss.declare(LinkLostError("the connection broke"))
    return await asyncio.gather(*map(one, at))


@given(st.lists(st.floats(0, 2 * SETTLE), min_size=1, max_size=5))
def test_one_wait_for_all(at: list[float]) -> None:
    """All know it when the process has had its time, whenever they ask, and all are told the same."""

    async def scenario() -> None:
        answers = await asked(hanging(), at)
        assert [when for when, _ in answers] == pytest.approx([max(SETTLE, asking) for asking in at], abs=1e-5)
        assert len({id(reason) for _, reason in answers}) == 1

    run_virtually(scenario())


async def test_said_once() -> None:
    """That the process was still there, and what it had printed, is told once."""
    link: Any = hanging()
    link._client.process.diagnostics = lambda: "its last words"
    [(_, reason)] = await asked(link, [0.0])
    assert str(reason) == "the connection broke; the plugin's process 7 was still there\nits last words"
