"""Answers a browser's requests: the page's files, the stream of events, and the few wishes that the page may send."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsm_conn._util.extras import missing
from fsm_conn._util.timing import now
from fsm_conn.diagrams.errors import DiagramError
from fsm_conn.inspector.acting import Acts
from fsm_conn.inspector.hub import MOST_WINDOWS, Hub
from fsm_conn.inspector.pictures import Pictures
from fsm_conn.inspector.registry import Registry
from fsm_conn.inspector.subject import Subject
from fsm_conn.inspector.walk import Walk
from fsm_conn.version import __version__

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route
except ImportError as error:
    raise missing("Inspector", "inspector", error.name) from error

if TYPE_CHECKING:
    from fsm_conn.inspector.replay import Replay

__all__ = ["PAGE_FILES", "Answers"]

PAGE = Path(__file__).parent / "page"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE_FILES = frozenset(path.name for path in PAGE.iterdir() if path.suffix in _KINDS) | {""}
"""The only files that are ever served from the disk."""
LARGEST_WISH = 10_000
"""The most bytes of a wish."""


class Answers:
    """Answers every request that was allowed.

    Args:
        registry: the inspected subjects.
        hub: the open windows.
        acts: what the page may do.
        title: the page's title.
    """

    def __init__(self, registry: Registry, hub: Hub, acts: Acts, title: str) -> None:
        self._registry = registry
        self._hub = hub
        self._acts = acts
        self._title = title
        self._pictures = Pictures()
        self.replay: Replay | None = None
        self.app = Starlette(
            routes=[
                Route("/api/feed", self._feed),
                Route("/api/picture", self._picture),
                Route("/api/look", self._look, methods=["POST"]),
                Route("/api/act", self._act, methods=["POST"]),
                Route("/api/answer", self._answer, methods=["POST"]),
                Route("/api/steer", self._steer, methods=["POST"]),
                Route("/{name}", self._file),
                Route("/", self._file),
            ]
        )

    # --- the page -----------------------------------------------------------------------------------------------

    async def _file(self, request: Request) -> Response:
        name = request.path_params.get("name", "")
        if name not in PAGE_FILES:
            raise HTTPException(404)
        path = PAGE / (name or "index.html")
        return Response(path.read_bytes(), media_type=_KINDS[path.suffix])

    # --- events and pictures ------------------------------------------------------------------------------------

    async def _feed(self, request: Request) -> Response:
        if len(self._hub.windows) >= MOST_WINDOWS:
            raise HTTPException(503, f"{MOST_WINDOWS} windows are open already; close one")
        hello = {
            "version": __version__,
            "title": self._title,
            "allow": sorted(self._acts.allowed),
            "wall": time.time() - now(),
        }
        return StreamingResponse(self._told(hello), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    def _told(self, hello: dict[str, Any]) -> AsyncIterator[bytes]:
        return self._hub.stream(hello, self._registry.all, self._clocks)

    def _clocks(self) -> dict[str, Any]:
        found: dict[str, Any] = {"now": now(), "left_out": self._registry.left_out}
        return found if self.replay is None else found | {"replay": self.replay.clock()}

    async def _picture(self, request: Request) -> Response:
        subject = self._subject(request.query_params.get("of", ""))
        theme, detail = (request.query_params.get(name, "") for name in ("theme", "detail"))
        try:
            svg = await self._pictures.of(subject.chart, theme, detail)
        except DiagramError as error:  # the page then shows a board
            return JSONResponse({"error": str(error)})
        except ValueError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return Response(svg, media_type="image/svg+xml")

    # --- wishes -------------------------------------------------------------------------------------------------

    async def _look(self, request: Request) -> Response:
        wish = await _wish(request)
        window = self._hub.found(wish.get("window"))
        if window is None:
            raise HTTPException(404, "there is no such window")
        key = wish.get("of")
        window.look(None if key is None else self._subject(key), wish.get("guards") is True)
        return JSONResponse({"error": None})

    async def _act(self, request: Request) -> Response:
        wish = await _wish(request)
        act, trigger = wish.get("act"), wish.get("trigger", "")
        if not isinstance(act, str) or not isinstance(trigger, str):
            raise HTTPException(400, "act and trigger must be text")
        peer = request.client.host if request.client is not None else "somebody"
        return JSONResponse({"error": await self._acts.act(self._subject(wish.get("of")), act, trigger, peer)})

    async def _answer(self, request: Request) -> Response:
        """Set a guard's answer in a walk by hand, or start the walk anew."""
        wish = await _wish(request)
        subject = self._subject(wish.get("of"))
        if not isinstance(subject, Walk):
            raise HTTPException(400, "only a table that is walked by hand can be answered for")
        if wish.get("again") is True:
            subject.forget()
            for window in self._hub.windows:
                window.changed[subject] = None
                if window.looking is subject:
                    window.look_again(subject)
            return JSONResponse({"error": None})
        guard, says = wish.get("guard"), wish.get("says")
        if not isinstance(guard, str) or not isinstance(says, bool):
            raise HTTPException(400, "guard must be text, and says true or false")
        return JSONResponse({"error": subject.answer(guard, says)})

    async def _steer(self, request: Request) -> Response:
        wish = await _wish(request)
        if self.replay is None:
            raise HTTPException(400, "there is no replay")
        return JSONResponse({"error": self.replay.steer(wish)})

    def _subject(self, key: object) -> Subject:
        subject = self._registry.subjects.get(key) if isinstance(key, str) else None
        if subject is None:
            raise HTTPException(404, "there is no such machine any more")
        return subject


async def _wish(request: Request) -> dict[str, Any]:
    """The page's wish: a JSON object. Browsers do not let a page of another origin send its media type unasked."""
    if request.headers.get("content-type") != "application/json":
        raise HTTPException(415, "send application/json")
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_WISH:
                raise HTTPException(413, f"more than {LARGEST_WISH} bytes")
        wish = json.loads(body)
    except (ValueError, RecursionError, ClientDisconnect):
        raise HTTPException(400, "that is no JSON") from None
    if not isinstance(wish, dict):
        raise HTTPException(400, "send a JSON object")
    return wish
