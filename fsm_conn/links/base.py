"""What a connection drives: the contract of a `Link`, and the options of one call.

A link is one attempt at being connected: made for one `open`, thrown away after one `close`. It knows
nothing of states, retries or policies. Whoever wants to drive something other than a plugin writes one of
these and hands `Connection` a callable that makes it.
"""

from __future__ import annotations

import abc
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Protocol

import attrs

from fsm_conn._util.keywords import explained_class
from fsm_conn.links.broker import Broker

__all__ = ["CallOptions", "Link", "ReceivedMetadata", "StubTraffic", "checked_metadata"]


def _timeout(options: object, attribute: Any, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"CallOptions(timeout={value!r}): give a number of seconds, or None for no limit")
    if not 0 < value <= LONGEST:
        raise ValueError(
            f"CallOptions(timeout={value!r}): give more than zero and at most {LONGEST:g} seconds, or None for no limit"
        )


LONGEST = 1e8
"""Seconds, some three years: beyond it gRPC's own arithmetic overflows, and a call would fail at once."""

_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[ -~]*")


def _flag(options: object, attribute: Any, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"CallOptions({attribute.name}={value!r}): give True or False")


def _only_idempotent(options: Any, attribute: Any, value: object) -> None:
    _flag(options, attribute, value)
    if value and not options.idempotent:
        raise ValueError("CallOptions(retry_unavailable=True): only what is idempotent=True may be sent again")


def _check_metadata(key: object, value: object, owner: str) -> None:
    """The rules of gRPC's own wire format, which it tells in words that nobody understands."""
    if not isinstance(key, str) or not isinstance(value, (str, bytes)):
        raise TypeError(f"{owner}(metadata=...): {key!r} must be a str, and its value a str or bytes")
    if not _KEY.fullmatch(key):
        hint = f"; write {key.lower()!r}" if _KEY.fullmatch(key.lower()) else ""
        raise ValueError(f"{owner}(metadata=...): {key!r} may have only lower-case letters, digits, and _ . -{hint}")
    if key.endswith("-bin") != isinstance(value, bytes):
        raise TypeError(f"{owner}(metadata=...): {key!r}: bytes go with keys that end in '-bin', and with no others")
    if isinstance(value, str) and not _TEXT.fullmatch(value):
        raise ValueError(f"{owner}(metadata=...): the value of {key!r} may have only printable ASCII characters")


def checked_metadata(value: Any, owner: str = "CallOptions") -> tuple[tuple[str, str | bytes], ...]:
    """GRPC metadata, as pairs; `owner` is named in errors.

    Raises:
        TypeError, ValueError: it is none; a value is never shown.
    """
    pairs = value.items() if isinstance(value, Mapping) else value
    try:
        metadata = tuple((key, item) for key, item in pairs)
    except (TypeError, ValueError):
        raise TypeError(
            f"{owner}(metadata={type(value).__name__}): give a mapping, or pairs of key and value"
        ) from None
    for key, item in metadata:
        _check_metadata(key, item, owner)
    return metadata


@attrs.define(eq=False)
class ReceivedMetadata:
    """What came with the replies of one call beside the messages: give one to `CallOptions`, and look into it later."""

    initial: tuple[tuple[str, str | bytes], ...] = ()
    """What the peer has sent before its first reply; there when the first reply is."""
    trailing: tuple[tuple[str, str | bytes], ...] = ()
    """What it has sent at the end; there when the call has ended, well or with an error."""


def _received(options: object, attribute: Any, value: object) -> None:
    if value is not None and not isinstance(value, ReceivedMetadata):
        raise TypeError(f"CallOptions(received={type(value).__name__}): give a ReceivedMetadata(), or None")


@explained_class
@attrs.frozen(kw_only=True)
class CallOptions:
    """Options of one call. Given as an object, by position, so that no option can collide with a field name."""

    timeout: float | None = attrs.field(default=None, validator=_timeout)
    """A deadline over the whole call, in seconds: waiting for a connection and repeats included. None: no limit."""
    metadata: tuple[tuple[str, str | bytes], ...] = attrs.field(default=(), converter=checked_metadata, repr=False)
    """gRPC metadata to send: a mapping or pairs. Not shown in `repr`, for it often carries tokens."""
    idempotent: bool = attrs.field(default=False, validator=_flag)
    """The request may be executed twice without harm, so after a lost link it is sent again, on the next one; up to
    three times."""
    retry_unavailable: bool = attrs.field(default=False, validator=_only_idempotent)
    """For an idempotent call: when it is answered with UNAVAILABLE, as by a proxy whose backend is away, or while a
    leader is elected, it is sent again, up to six times, within its timeout. The pauses between begin at 0.1 s, double,
    and end at 1.6 s; each is shortened by up to a half, by chance."""
    wait_for_ready: bool = attrs.field(default=False, validator=_flag)
    """Made while connecting or reconnecting, the call waits for the connection instead of failing at once."""
    received: ReceivedMetadata | None = attrs.field(default=None, validator=_received, eq=False, repr=False)
    """Where the metadata that come with the replies are put; of a call that is sent again, those of the last time."""


class StubTraffic(Protocol):
    """Where a link notes the calls that compiled stubs make: they are gRPC's own, and go past `Link.call`."""

    began: dict[Any, float]
    """When each began that is under way, by the loop's clock."""
    heard_at: float
    """When the peer has last answered something."""
    look: Callable[[], object]
    """Set by the link; called before others look which calls are under way, it takes out those that are not."""
    ran_out: Callable[[float], object]
    """Called by the link when a call was ended by its deadline, with when that had begun."""


class Link(abc.ABC):
    """One connection to one peer: opened once, lost at most once, closed once.

    An implementation promises what each method's docstring says; its user promises to call `open` once, and
    `close` once if and only if `open` returned.
    """

    may_warm_up: bool = False
    """Whether its peer may say that it is not ready yet when it was opened: it is asked, where health is watched."""

    @abc.abstractmethod
    async def open(self) -> None:
        """Make one attempt to connect. No retries, and no time limit: the caller has both.

        However it ends other than by returning, by an error or by cancellation at any await, nothing is
        left behind: no process, no task, no file descriptor, no file.

        Raises:
            LinkError: the attempt failed; `permanent` tells whether trying again can help.
        """

    @abc.abstractmethod
    async def close(self) -> None:
        """Give back everything. Called once, after `open` has returned, whether or not the link was lost.

        Bounded in time on its own. When cancelled, it does the rest at once, without waiting, before the
        cancellation goes on. Calls in flight fail promptly.
        """

    @abc.abstractmethod
    async def lost(self) -> Exception:
        """Wait until the link is lost, and return why. Never raises it. May be called again, with the same answer.

        A `GoingAwayError` means that the peer closes the link in good order. Such a link still serves: what is under
        way is finished, and, where the link can do that, new calls are served until it is closed. So the next link can
        be opened beside it; then `drained` tells when it is time to close this one.
        """

    async def drained(self) -> None:  # noqa: B027 - most links have no calls that outlive them
        """Wait until no call is under way through this link. For one that goes away: `close` would break them."""

    def mark_unresponsive(self) -> None:  # noqa: B027 - most links have nothing to leave out
        """Be told, before `close`, that the peer does not answer any more: leave out what it would have to answer."""

    async def probe(self, service: str = "") -> bool:
        """Ask the peer whether it is well. The caller sets the time limit.

        Args:
            service: the service that is meant; empty: the peer as a whole.

        Returns:
            True when it said that it is, False when it has no way to tell.

        Raises:
            NotServingError: it said that it is not.
            ProbeError: it could not be asked.
        """
        return False

    async def watch(self, service: str = "") -> AsyncIterator[bool]:
        """Yield whether the peer is well each time it says so by itself. Ends at once when it never will."""
        never: tuple[bool, ...] = ()
        for word in never:
            yield word

    async def find(self, method: str, options: CallOptions | None) -> None:  # noqa: B027 - most have nothing to find
        """Look up what a call of `method` needs, so that the next one is sent at once. Raises as `call`."""

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """Call a method that answers with one message.

        Args:
            method: `service.Method`, where the service may be a full or a short name.
            request: a whole request message, or an iterable of them where the method takes a stream. None: `fields`.
            fields: the fields of the request, by name.
            options: options of this call. `idempotent` and `wait_for_ready` are the caller's business, not the link's.

        Raises:
            CallError: the call could not be made, or the link was lost under it.
            grpc.aio.AioRpcError: what the peer itself answered.
        """
        raise TypeError(f"{type(self).__name__} makes no calls: define its method call()")

    def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """Call a method that answers with a stream of messages. Arguments and errors as for `call`."""
        raise TypeError(f"{type(self).__name__} makes no streaming calls: define its method stream()")

    async def offers(self) -> Mapping[str, tuple[str, ...]]:
        """The services that can be called, by their full names, each with its methods; as far as the peer tells."""
        return {}

    def is_unavailable(self, error: BaseException) -> bool:
        """Whether an error that a call raised is the peer's answer that it cannot serve at present."""
        return False

    def is_answer(self, error: BaseException) -> bool:
        """Whether an error that a call raised is the peer's own answer, and so a sign of life."""
        return False

    @property
    def channel(self) -> Any:
        """The open `grpc.aio.Channel`, for compiled stubs."""
        raise TypeError(f"{type(self).__name__} has no gRPC channel, so it serves no compiled stubs")

    def note_stubs(self, traffic: StubTraffic) -> None:  # noqa: B027 - most links serve no compiled stubs
        """Note the calls that compiled stubs make over `channel` in `traffic`, from now on."""

    @property
    def broker(self) -> Broker:
        """Serves the peer, and reaches what else it serves, where it is a plugin."""
        raise TypeError(f"{type(self).__name__} has no broker: it is no link to a go-plugin plugin")

    @property
    def pid(self) -> int | None:
        """The process id of the peer, where it is a process of ours; None otherwise."""
        return None

    def start_slot(self) -> AbstractAsyncContextManager[Any]:
        """A context to hold around `open`, where attempts must queue; waiting in it is not counted as opening."""
        return nullcontext()

    def diagnostics(self) -> str:
        """The peer's output so far that could explain a failure, for error messages. Without secrets."""
        return ""
