"""Who may look. Every request passes here before anything else sees it.

What is refused, and why:

- A `Host` that is not ours: a page of somebody else's, whose name has been made to point at this machine (DNS
  rebinding), would otherwise be of the same origin as ours.
- An `Origin` that is not ours, and `Sec-Fetch-Site` from another site: a page of somebody else's that asks from the
  same browser.
- A request without the token, where there is one. It is sent as a header, so that no other page can have it sent along,
  and stands in no address that is logged. The page itself, which holds nothing, is given without.
- Without a token, whoever is not on this machine.

Every answer forbids the page to load or run anything but our own files, to be shown in a frame, and to be kept.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any, Literal
from urllib.parse import urlsplit

__all__ = ["HEADERS", "Guarded", "checked_token", "is_loopback"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
SHORTEST_TOKEN = 16
"""Characters."""

_POLICY = "; ".join(
    (
        *("default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'"),
        *("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    )
)
HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
"""On every answer."""


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def checked_token(token: str | Literal[False]) -> str | None:
    """The token; None: there is to be none.

    Raises:
        ValueError: it could be guessed, or cannot be sent.
    """
    if token is False:
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"token: give at least {SHORTEST_TOKEN} printable characters of ASCII, such as secrets.token_urlsafe()"
        )
    return token


class Guarded:
    """An ASGI app behind these rules.

    Args:
        app: what answers those who may ask.
        hosts: names by which we are reached, beside those of this machine.
        token: what must be shown; None: nothing, and only this machine may ask.
        public: the names of the files that are given without the token.
    """

    def __init__(self, app: App, hosts: Iterable[str], token: str | None, public: Collection[str]) -> None:
        self._app = app
        self._public = frozenset(public)
        self._hosts = LOCAL_HOSTS | {host.lower() for host in hosts}
        self._token = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"the inspector serves HTTP, not {scope['type']!r}")
        refusal = self._refusal(scope, dict(scope["headers"]))
        if refusal is not None:
            await _refuse(send, *refusal)
            return

        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        await self._app(scope, receive, sent)

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if _name_of(host) not in self._hosts:
            return 421, "this inspector is not reached by that name; name it in Inspector(hosts=...)"
        origin = headers.get(b"origin")
        if origin is not None and _place_of(origin.decode("latin-1")) != host.lower():
            return 403, "a page of another origin may not ask"
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin") and not self._is_public(scope):
            return 403, "a page of another site may not ask"
        if self._token is None:
            peer = scope.get("client")
            if peer is not None and not is_loopback(peer[0]):
                return 403, "without a token, only this machine may ask; leave token=False away"
        elif not self._is_public(scope) and not hmac.compare_digest(headers.get(b"authorization", b""), self._token):
            return 401, "the token is missing or wrong; open the page by the address that was printed"
        return None

    def _is_public(self, scope: Scope) -> bool:
        """Whether it asks for the page itself: by the last part of the path, for it may be mounted anywhere."""
        path = scope["path"]
        return path.rpartition("/")[2] in self._public or path == scope.get("root_path", "")


def _name_of(host: str) -> str:
    """The name in `name:port`."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _place_of(origin: str) -> str | None:
    """The name and the port in `scheme://name:port`; None: it is no origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


async def _refuse(send: Send, status: int, why: str) -> None:
    headers = {**HEADERS, "content-type": "text/plain; charset=utf-8"}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": f"{why}\n".encode()})
