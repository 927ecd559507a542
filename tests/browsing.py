"""A browser without a page: it asks an ASGI application, and reads what it streams."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import attrs

HOST = "127.0.0.1:8765"


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Asks as a page of our own would, unless it is told otherwise."""

    def __init__(self, app: Any, peer: str | None = "127.0.0.1", **headers: str) -> None:
        self.app, self.peer, self.headers = app, peer, headers

    def scope(self, method: str, path: str, headers: dict[str, str], root: str) -> dict[str, Any]:
        path, _, query = path.partition("?")
        told = {"host": HOST, **self.headers, **headers}
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": root + path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": root,
            "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in told.items()],
            "client": None if self.peer is None else (self.peer, 5000),
            "server": ("127.0.0.1", 8765),
        }

    async def ask(self, method: str, path: str, body: bytes = b"", *, root: str = "", **headers: str) -> Answer:
        """One question and its whole answer."""
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(self.scope(method, path, headers, root), receive, send)
        start = next(each for each in sent if each["type"] == "http.response.start")
        told = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], told, b"".join(each.get("body", b"") for each in sent))

    async def get(self, path: str, **options: str) -> Answer:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, value: Any, **options: str) -> Answer:
        options = {"content_type": "application/json", **options}
        return await self.ask("POST", path, json.dumps(value).encode(), **options)

    def feed(self) -> Feed:
        return Feed(self)


class Feed:
    """An open window: what it is told, put together as a page does it."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.hello: dict[str, Any] = {}
        self.rows: dict[str, list[Any]] = {}
        self.entries: list[list[Any]] = []
        self.look_told: dict[str, Any] | None = None
        self.details: dict[str, Any] = {}
        self.messages = 0
        self.blocked: asyncio.Event | None = None
        self._closed = asyncio.Event()
        self._told = asyncio.Event()
        self.status = 0

    async def __aenter__(self) -> Feed:
        self.task = asyncio.create_task(self._run())
        await self.until(lambda: self.hello or self.status >= 400)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._closed.set()
        if self.blocked is not None:
            self.blocked.set()
        await self.task

    async def _run(self) -> None:
        async def receive() -> dict[str, Any]:
            await self._closed.wait()
            return {"type": "http.disconnect"}

        await self.browser.app(self.browser.scope("GET", "/api/feed", {}, ""), receive, self._send)
        self._told.set()

    async def _send(self, message: Any) -> None:
        if self.blocked is not None:
            await self.blocked.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
        for part in message.get("body", b"").split(b"\n\n"):
            if part.startswith(b"data: "):
                self._take(json.loads(part[6:]))
        self._told.set()

    def _take(self, message: dict[str, Any]) -> None:
        self.messages += 1
        self.hello = message.get("hello", self.hello)
        for key in message.get("gone", ()):
            self.rows.pop(key, None)
        for row in message.get("rows", ()):
            self.rows[row[0]] = row
        if "look" in message:
            self.look_told = message["look"]
            self.entries = list(message["look"]["entries"])
        self.entries += message.get("entries", [])
        self.details = message.get("details", self.details)

    async def until(self, holds: Any) -> None:
        """Wait until something holds of what was told."""
        async with asyncio.timeout(60):
            while not holds():
                self._told.clear()
                await self._told.wait()

    def named(self, name: str) -> list[Any]:
        """The line of the machine of that name."""
        return next(row for row in self.rows.values() if row[1] == name)

    async def look(self, name: str, guards: bool = True) -> dict[str, Any]:
        """Choose a machine, and return what is told of it."""
        await self.until(lambda: any(row[1] == name for row in self.rows.values()))
        self.look_told = None
        self.details = {}
        wish = {"window": self.hello["window"], "of": self.named(name)[0], "guards": guards}
        assert (await self.browser.post("/api/look", wish)).json == {"error": None}
        await self.until(lambda: self.look_told is not None and self.details)
        assert self.look_told is not None
        return self.look_told
