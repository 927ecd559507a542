"""Decides who may look. Every request is checked here before any other code sees it.

What is refused, and why:

- A foreign `Host`. A foreign page whose name was made to point at this machine (DNS rebinding) would otherwise have
  the same origin as our page.
- A foreign `Origin`, or a `Sec-Fetch-Site` from another site: the request comes from a foreign page in the same
  browser.
- A request without the token, where there is one. The token is sent as a header, so no other page can make the
  browser send it, and it appears in no address that is logged. The page itself contains no data, and needs no token.
- Without a token, a client that is not on this machine.

Every answer forbids the browser to load or run anything but our own files, to show the page in a frame, or to cache
it.
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
"""The least number of characters of a token."""

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
"""Headers of every answer."""


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached only from this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def checked_token(token: str | Literal[False]) -> str | None:
    """The token; None: no token is needed.

    Raises:
        ValueError: the token could be guessed, or cannot be sent in a header.
    """
    if token is False:
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable():
        raise ValueError(
            f"token: give at least {SHORTEST_TOKEN} printable characters of ASCII, such as secrets.token_urlsafe()"
        )
    return token


class Guarded:
    """An ASGI app protected by these rules.

    Args:
        app: answers the requests that are allowed.
        hosts: names of this server, beside those of this machine.
        token: the token that clients must send; None: none is needed, and only this machine may ask.
        public: the names of the files that are served without the token.
    """

    def __init__(self, app: App, hosts: Iterable[str], token: str | None, public: Collection[str]) -> None:
        self._app = app
        self._public = frozenset(public)
        self._hosts = LOCAL_HOSTS | {host.lower() for host in hosts}
        self._token = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or refuse it."""
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
        """Whether it asks for the page itself. Only the end of the path counts, as the app may be mounted anywhere."""
        path = scope["path"]
        return path.rpartition("/")[2] in self._public or path == scope.get("root_path", "")


def _name_of(host: str) -> str:
    """The name in `name:port`."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()


def _place_of(origin: str) -> str | None:
    """The name and the port in `scheme://name:port`; None: the text is no origin."""
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
