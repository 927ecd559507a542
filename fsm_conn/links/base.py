"""The contract of a `Link`, which a connection drives, and the options of one call.

A link is one attempt to be connected: created for one `open`, thrown away after one `close`. It knows
nothing of states, retries or policies. To connect to something other than a plugin, derive from `Link`
and give `Connection` a callable that makes one.
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
"""Seconds, some three years. With a longer timeout gRPC's arithmetic overflows, and a call would fail at once."""

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
    """Check the rules of gRPC's wire format, with messages that are clearer than gRPC's own."""
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
    """Return gRPC metadata as pairs; `owner` is named in errors.

    Raises:
        TypeError, ValueError: it is not valid metadata; the message never shows a value.
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


def _keys(pairs: tuple[tuple[str, str | bytes], ...]) -> str:
    return str([key for key, _ in pairs])


@attrs.define(eq=False)
class ReceivedMetadata:
    """The metadata that came with the replies of one call: give one to `CallOptions`, and read it later.

    Its `repr` shows the keys alone, because the values may be tokens.
    """

    initial: tuple[tuple[str, str | bytes], ...] = attrs.field(default=(), repr=_keys)
    """The initial metadata; present once the first reply is. Of a stream that fails before that, gRPC may have
    dropped it."""
    trailing: tuple[tuple[str, str | bytes], ...] = attrs.field(default=(), repr=_keys)
    """The trailing metadata; present once the call has ended, also with an error."""


def _received(options: object, attribute: Any, value: object) -> None:
    if value is not None and not isinstance(value, ReceivedMetadata):
        raise TypeError(f"CallOptions(received={type(value).__name__}): give a ReceivedMetadata(), or None")


@explained_class
@attrs.frozen(kw_only=True)
class CallOptions:
    """Options of one call. Given as an object, by position, so that no option can collide with a field name."""

    timeout: float | None = attrs.field(default=None, validator=_timeout)
    """The deadline of the whole call in seconds, including waits for a connection and repeats. None: no limit."""
    metadata: tuple[tuple[str, str | bytes], ...] = attrs.field(default=(), converter=checked_metadata, repr=False)
    """gRPC metadata to send: a mapping or pairs. Not shown in `repr`, because it often carries tokens."""
    idempotent: bool = attrs.field(default=False, validator=_flag)
    """Whether executing the request twice does no harm. If so, the call waits for a connection, and after a lost link
    it is sent again on the next one, up to three times."""
    retry_unavailable: bool = attrs.field(default=False, validator=_only_idempotent)
    """Whether an idempotent call is sent again, up to six times within its timeout, if it is answered with UNAVAILABLE,
    for example by a proxy without a backend, or with CANCELLED, by a server that is being stopped, or ends without a
    status, as a proxy ends it whose backend goes. The pauses begin at 0.1 s, double up to 1.6 s, and are each shortened
    at random by up to a half."""
    wait_for_ready: bool = attrs.field(default=False, validator=_flag)
    """Whether a call that is made while connecting or reconnecting waits for the connection instead of failing at
    once."""
    received: ReceivedMetadata | None = attrs.field(default=None, validator=_received, eq=False, repr=False)
    """Receives the metadata of the replies; for a call that is sent again, those of the last time."""


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

    one_at_a_time: bool = False
    """Whether it carries one call at a time, so that a pool sends no two calls through it at once."""

    may_warm_up: bool = False
    """Whether a new link's peer may still be warming up; where health is watched, it is probed until it is ready."""

    @abc.abstractmethod
    async def open(self) -> None:
        """Make one attempt to connect. No retries, and no time limit: the caller has both.

        When it ends by an error, or by cancellation at any await, nothing is left behind: no process, no task, no
        file descriptor, no file.

        Raises:
            LinkError: the attempt failed; `permanent` is True when trying again cannot help.
        """

    @abc.abstractmethod
    async def close(self) -> None:
        """Release everything. Called once, after `open` has returned, whether or not the link was lost.

        Bounded in time on its own. When cancelled, it does the rest at once, without waiting, before it passes the
        cancellation on. Calls in flight fail promptly.
        """

    @abc.abstractmethod
    async def lost(self) -> Exception:
        """Wait until the link is lost, and return the reason; never raise it. Later calls return the same.

        A `GoingAwayError` means that the peer closes the link in good order. Such a link finishes its calls and, where
        it can, serves new ones until it is closed. So the next link can be opened beside it; this one is closed when
        `drained` returns.
        """

    async def drained(self) -> None:  # noqa: B027 - most links have no calls that outlive them
        """Wait until no call is under way through this link, so that `close` breaks none."""

    def mark_unresponsive(self) -> None:  # noqa: B027 - most links have nothing to leave out
        """Called before `close` when the peer does not answer any more: skip what the peer would have to answer."""

    async def probe(self, service: str = "") -> bool:
        """Ask the peer whether it serves. The caller sets the time limit.

        Args:
            service: the name of the service; empty: the peer as a whole.

        Returns:
            True when it serves, False when it has no health service.

        Raises:
            NotServingError: it answered that it does not serve.
            ProbeError: it could not be asked.
        """
        return False

    async def watch(self, service: str = "") -> AsyncIterator[bool]:
        """Yield whether the peer serves each time that it announces it. Ends at once when it never does."""
        never: tuple[bool, ...] = ()
        for word in never:
            yield word

    async def find(self, method: str, options: CallOptions | None) -> None:  # noqa: B027 - most have nothing to find
        """Look up what a call of `method` needs, so that the call can be sent at once. Raises as `call`."""

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        """Call a method that answers with one message.

        Args:
            method: `service.Method`, where the service may be a full or a short name.
            request: a whole request message, or an iterable of them where the method takes a stream. None: `fields`.
            fields: the fields of the request, by name.
            options: options of this call. The caller handles `idempotent` and `wait_for_ready`, not the link.

        Raises:
            CallError: the call could not be made, or the link was lost during it.
            grpc.aio.AioRpcError: the peer answered with this error.
        """
        raise TypeError(f"{type(self).__name__} makes no calls: define its method call()")

    def stream(
        self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None
    ) -> AsyncIterator[Any]:
        """Call a method that answers with a stream of messages. Arguments and errors as for `call`."""
        raise TypeError(f"{type(self).__name__} makes no streaming calls: define its method stream()")

    async def offers(self) -> Mapping[str, tuple[str, ...]]:
        """The known services by full name, each with its methods."""
        return {}

    def is_unavailable(self, error: BaseException) -> bool:
        """Whether an error of a call is the peer's answer that it cannot serve at present."""
        return False

    def is_answer(self, error: BaseException) -> bool:
        """Whether an error of a call is the peer's own answer, and so a sign of life."""
        return False

    @property
    def channel(self) -> Any:
        """The open `grpc.aio.Channel`, for compiled stubs."""
        raise TypeError(f"{type(self).__name__} has no gRPC channel, so it serves no compiled stubs")

    def note_stubs(self, traffic: StubTraffic) -> None:  # noqa: B027 - most links serve no compiled stubs
        """Note the calls that compiled stubs make over `channel` in `traffic`, from now on."""

    @property
    def broker(self) -> Broker:
        """The broker of a go-plugin plugin."""
        raise TypeError(f"{type(self).__name__} has no broker: it is no link to a go-plugin plugin")

    @property
    def pid(self) -> int | None:
        """The process id of the peer if it is a child process; None otherwise."""
        return None

    def start_slot(self) -> AbstractAsyncContextManager[Any]:
        """A context around `open` for attempts that must queue; the wait does not count as opening."""
        return nullcontext()

    def diagnostics(self) -> str:
        """The peer's recent output, without secrets, to explain a failure in error messages."""
        return ""
