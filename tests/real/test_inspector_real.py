"""The inspector with what is real about it: its own server, the process that draws, and connections to processes."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import suppress
from typing import Any

import pytest
from browsing import Browser

from fsm_conn import State, StateMachine, Transition, blocking
from fsm_conn.inspector import Inspector, serving

from .conftest import CALCULATOR, PYTHON


class Door(StateMachine):
    """Two states."""

    states = (State("closed", initial=True), State("open"))
    transitions = (Transition("push", "closed", "open"), Transition("pull", "open", "closed"))

    def __init__(self, name: str) -> None:
        self.name = name


async def asked(url: str, path: str = "") -> bytes:
    """What the server answers to a plain request."""
    host, port = url.removeprefix("http://").rstrip("/").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_the_picture_has_the_states_under_their_names() -> None:
    """Drawn in another process; a wrong wish is told."""
    inspector = Inspector(token=False)
    inspector.watch(Door("front"), name="front")
    door = Door("kept")
    inspector.watch(door)
    browser = Browser(inspector.app)
    async with browser.feed() as feed:
        await feed.until(lambda: feed.rows)
        key = feed.named("kept")[0]
        answer = await browser.get(f"/api/picture?of={key}&theme=dark&detail=triggers")
        assert answer.status == 200
        assert answer.headers["content-type"] == "image/svg+xml"
        assert b'id="state-closed"' in answer.body
        wrong = await browser.get(f"/api/picture?of={key}&theme=pink&detail=full")
        assert (wrong.status, "pink" in wrong.json["error"]) == (400, True)
        assert (await browser.get("/api/picture?of=999&theme=dark&detail=full")).status == 404


async def test_it_serves_by_itself_and_ends() -> None:
    """On a port that is free, and on the same one again; nothing is left, and no signal is taken from the process."""
    inspector = Inspector(token=False, port=0)
    with pytest.raises(RuntimeError, match="does not serve"):
        inspector.url
    async with inspector:
        url = inspector.url
        assert b"fsm_conn inspector" in await asked(url)
        with pytest.raises(RuntimeError, match="serves already"):
            await inspector.start()
    with pytest.raises(OSError):
        await asked(url)
    async with Inspector(token=False, port=int(url.rstrip("/").rpartition(":")[2])) as again:
        assert again.url == url
        assert b"200 OK" in await asked(url)


async def test_a_port_that_is_taken_is_an_error() -> None:
    """Of the operating system, as for any other server; nothing ends the process."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError):
            await Inspector(token=False, port=taken.getsockname()[1]).start()


async def test_an_open_stream_does_not_hold_up_the_end() -> None:
    """It is ended by us, and no window is left."""
    async with Inspector(token=False, port=0) as inspector:
        host, port = "127.0.0.1", int(inspector.url.rstrip("/").rpartition(":")[2])
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(f"GET /api/feed HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert b"200 OK" in await reader.readline()
    rest = await reader.read()
    assert rest.endswith(b"0\r\n\r\n")
    assert inspector._hub.windows == ()
    writer.close()
    await writer.wait_closed()


async def test_who_asks_for_nothing_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor who asks slowly, or no second time; there are only so many; and a stream that is read goes on meanwhile."""
    monkeypatch.setattr(serving, "SILENCE", 3600)
    async with Inspector(token=False, port=0) as inspector, asyncio.timeout(120):
        host, port = "127.0.0.1", int(inspector.url.rstrip("/").rpartition(":")[2])
        request = f"GET /api/feed HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        feed, *others = opened = [await asyncio.open_connection(host, port) for _ in range(4)]
        feed[1].write(request)
        assert b"200 OK" in await feed[0].readline()
        others[1][1].write(request[:20])
        others[2][1].write(request.replace(b"/api/feed", b"/"))
        await others[2][0].readuntil(b"</html>")
        others[2][1].write(request[:20])
        connections: set[Any] = inspector._server._server.server_state.connections
        while len(connections) < len(opened):
            await asyncio.sleep(0.001)
        for connection in (*connections, *connections):
            connection.look()
        for reader, _ in others:
            await ended(reader)
        assert len(inspector._hub.windows) == 1
        assert not feed[0].at_eof()

        monkeypatch.setattr(serving, "MOST_CONNECTIONS", 4)
        opened += [await asyncio.open_connection(host, port) for _ in range(4)]
        await ended(opened[-1][0])  # the fifth
        monkeypatch.setattr(serving, "SILENCE", 0.05)
        monkeypatch.setattr(serving, "MOST_CONNECTIONS", 256)
        opened.append(await asyncio.open_connection(host, port))
        await ended(opened[-1][0])
    for _, writer in opened:
        writer.close()


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until a connection is closed by the other side."""
    with suppress(ConnectionError):
        while await reader.read(65536):
            pass


async def test_the_command_shows_a_plugin_and_takes_it_along(no_leaks: None) -> None:
    """`fsm-conn inspect -- plugin` is told where to look, and Ctrl-C ends both."""
    command = (PYTHON, "-m", "fsm_conn", "inspect", "--port", "0", "--", *CALCULATOR)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        told = (await process.stdout.readline()).decode()
        url = told.split()[2]
        assert told.startswith("Look at http://127.0.0.1:")
        where, _, token = url.removeprefix("http://").partition("/#token=")
        host, port = where.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        asking = f"GET /api/feed HTTP/1.1\r\nHost: {where}\r\nAuthorization: Bearer {token}\r\n\r\n"
        writer.write(asking.encode())
        feed = b""
        while b'"connection","Connection","connected"' not in feed:
            feed += await asyncio.wait_for(reader.read(65536), 200)
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 200) == 130
        writer.close()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_machine_of_another_thread_is_shown_and_left_alone() -> None:
    """Its transitions are told; its guards are not asked, and nothing is done with it, for it lives elsewhere."""
    inspector = Inspector(token=False, allow=("fire",))
    stop = inspector.watch_all()
    conn = await asyncio.to_thread(blocking.Connection, CALCULATOR, name="elsewhere")
    try:
        await asyncio.to_thread(conn.connect)
        browser = Browser(inspector.app)
        async with browser.feed() as feed:
            told = await feed.look("elsewhere")
            assert [entry[3] for entry in told["entries"]] == ["connecting", "connected"]
            assert feed.details["guards"] is None
            wish = {"of": feed.named("elsewhere")[0], "act": "fire", "trigger": "disconnect"}
            answer = await browser.post("/api/act", wish)
            assert answer.json["error"] == "it lives in the event loop of another thread"
    finally:
        await asyncio.to_thread(conn.close)
        stop()
        await inspector.aclose()
