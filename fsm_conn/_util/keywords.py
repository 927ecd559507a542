"""Explains a keyword that a function, a method or a constructor does not take: its name here, or where it belongs."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from fsm_conn._util.field_docs import FieldDocs

__all__ = [
    "Places",
    "advice",
    "explained",
    "explained_class",
    "limits",
    "named",
    "refuse_unknown",
    "remembered",
    "taken_by",
]

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)
Places = Mapping[str, Iterable[str]]
"""The places that take other keywords: how to write each, with `{}` for the keyword, and its keywords."""

WORDS: dict[str, tuple[str, ...]] = {
    "action": ("effects",),
    "actions": ("effects",),
    "addr": ("address", "target"),
    "address": ("target", "listen"),
    "after": ("beside", "effects"),
    "args": ("command", "target"),
    "attempts": ("max_attempts",),
    "backoff": ("initial_delay", "multiplier"),
    "backoff_factor": ("multiplier",),
    "base": ("initial_delay", "multiplier"),
    "base_delay": ("initial_delay",),
    "base_url": ("address", "target"),
    "before": ("effects",),
    "bind": ("listen",),
    "ca": ("roots",),
    "cafile": ("roots",),
    "cap": ("max_delay",),
    "capacity": ("burst",),
    "cert": ("certificate",),
    "certfile": ("certificate",),
    "certificate_chain": ("certificate",),
    "channel_credentials": ("credentials",),
    "check_interval": ("interval",),
    "checksum": ("sha256",),
    "client_cert": ("certificate",),
    "client_key": ("key",),
    "cmd": ("command", "target"),
    "command": ("target",),
    "condition": ("guards",),
    "conditions": ("guards",),
    "connect_timeout": ("start_timeout",),
    "connection_timeout": ("start_timeout",),
    "cookie": ("env",),
    "deadline": ("timeout", "deadline"),
    "delay": ("initial_delay",),
    "dst": ("dest",),
    "effect": ("effects",),
    "enter": ("entry",),
    "environ": ("env",),
    "environment": ("env",),
    "every": ("interval",),
    "examples": ("max_examples", "lives"),
    "exponential_base": ("multiplier",),
    "factor": ("multiplier",),
    "failures": ("failure_threshold",),
    "file": ("path",),
    "filename": ("path",),
    "fmt": ("format",),
    "from_state": ("source",),
    "grace": ("timeout",),
    "guard": ("guards",),
    "headers": ("metadata",),
    "health_check": ("health",),
    "health_check_interval": ("interval",),
    "health_policy": ("health",),
    "host": ("address", "target"),
    "ignore": ("accept",),
    "initial_backoff": ("initial_delay",),
    "keepalive": ("options",),
    "keyfile": ("key",),
    "label": ("name",),
    "limit": ("seconds", "timeout", "at_least"),
    "magic_cookie": ("env",),
    "max": ("pool_size", "max_overflow"),
    "max_age": ("max_lifetime",),
    "max_backoff": ("max_delay",),
    "max_connections": ("pool_size", "max_overflow"),
    "max_depth": ("depth",),
    "max_interval": ("max_delay",),
    "max_message_length": ("max_message",),
    "max_retries": ("max_attempts",),
    "max_size": ("pool_size", "size", "max_overflow"),
    "max_steps": ("steps", "depth"),
    "max_tokens": ("burst",),
    "max_wait": ("max_delay",),
    "max_workers": ("pool_size", "size"),
    "maxsize": ("pool_size", "size", "max_overflow"),
    "min": ("pool_size", "size"),
    "min_size": ("pool_size", "size"),
    "n": ("lives", "max_examples"),
    "on_connect": ("on_open",),
    "on_enter": ("entry",),
    "on_exit": ("exit",),
    "output": ("path", "format"),
    "per_second": ("rate",),
    "period": ("interval", "restart_window"),
    "pool_max": ("pool_size", "max_overflow"),
    "pool_min": ("pool_size", "size"),
    "pool_recycle": ("max_lifetime",),
    "pool_timeout": ("acquire_timeout",),
    "port": ("address", "target"),
    "pre_ping": ("health",),
    "proto": ("services",),
    "protos": ("services",),
    "recycle": ("max_lifetime",),
    "restart_limit": ("max_restarts",),
    "retries": ("max_attempts", "idempotent"),
    "retry": ("idempotent", "replacement"),
    "retry_budget": ("budget",),
    "retry_policy": ("retry",),
    "root_certificates": ("roots", "credentials"),
    "secure": ("credentials",),
    "size": ("pool_size",),
    "ssl": ("credentials", "mtls"),
    "steps": ("depth", "steps"),
    "stop_after": ("max_attempts",),
    "target": ("dest", "address", "command"),
    "threshold": ("failure_threshold",),
    "timeout": ("start_timeout", "timeout", "acquire_timeout", "seconds", "until"),
    "tls": ("credentials", "mtls"),
    "to": ("dest",),
    "to_state": ("dest",),
    "tokens": ("burst",),
    "tries": ("max_attempts",),
    "unhealthy_threshold": ("failure_threshold",),
    "unless": ("guards",),
    "url": ("address", "target"),
    "wait": ("wait_for_ready", "initial_delay"),
    "workers": ("pool_size", "size"),
    "working_directory": ("cwd",),
}
"""The names that other libraries use, and ours for them."""

_ADDRESS, _COOKIE = "one string, such as 'localhost:50051'", "the cookie is a variable of the plugin's environment"
HOW = {"host": _ADDRESS, "port": _ADDRESS, "cookie": _COOKIE, "magic_cookie": _COOKIE}
"""What to say beside the keyword to write instead."""

_HOMES: dict[str, Callable[..., Any]] = {}
"""The constructors of public classes, by the names of the classes: those imported so far."""

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_TOO_MANY = re.compile(r"takes (?:from \d+ to )?\d+ positional arguments? but \d+ were given")


def advice(name: str, own: Iterable[str], places: Places) -> str:
    """What to write instead of the keyword `name`, as the end of a sentence.

    Args:
        name: the keyword.
        own: the keywords that it takes.
        places: the places that take others.
    """
    known = list(own)
    takes = f"it takes {', '.join(known) or 'no keywords'}"
    if found := _found((name, *WORDS.get(name, ())), known, places):
        return f"give {found}: {HOW[name]}" if name in HOW else f"give {found}"
    if homes := [f"{home}({name}=...)" for home, made in _HOMES.items() if name in _taken(made)]:
        return f"that is {' or '.join(homes)}; {takes}"  # rather than a name that is only like it
    near = _found(_near(name, known, places), known, places)
    return f"give {near}" if near else takes


def _found(names: Collection[str], known: Collection[str], places: Places) -> str:
    """Where any of these names may be given; empty when nothing takes one."""
    found = [f"{word}=..." for word in names if word in known]
    found += [place.format(f"{word}=...") for word in names for place, words in places.items() if word in words]
    return " or ".join(dict.fromkeys(found))


def _near(name: str, own: Iterable[str], places: Places) -> list[str]:
    import difflib  # only errors need it

    known = dict.fromkeys([*own, *(word for words in places.values() for word in words)])
    return difflib.get_close_matches(name, known, n=1, cutoff=0.7)


def limits() -> Places:
    """How to give a limit to something that waits and takes none."""
    return {"'async with asyncio.timeout(seconds):' around it": ("timeout", "deadline")}


def explained(places: Callable[[], Places] = dict) -> Callable[[F], F]:
    """Make a function or a method explain a wrong keyword and say what to write instead.

    It costs a call, so it is not for what is called thousands of times a second. The error of a coroutine function is
    raised when the coroutine is awaited.

    Args:
        places: returns the places that take other keywords; called only on an error.
    """

    def decorate(function: F) -> F:
        remembered(function)

        @functools.wraps(function)
        def explaining(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except TypeError as error:
                _explain(function, args, error, places)
                raise

        @functools.wraps(function)
        async def explaining_coroutine(*args: Any, **kwargs: Any) -> Any:
            try:
                work = function(*args, **kwargs)
            except TypeError as error:
                _explain(function, args, error, places)
                raise
            return await work

        return cast("F", explaining_coroutine if inspect.iscoroutinefunction(function) else explaining)

    return decorate


def remembered(function: F) -> F:
    """Remember which keywords a constructor of ours takes, for whoever gives one of them to something else.

    A life under test takes what it passes on, so none is remembered.
    """
    room = function.__module__.partition("fsm_conn.")[2]
    if function.__name__ == "__init__" and room and not room.startswith("testing"):
        _HOMES[function.__qualname__.removesuffix(".__init__")] = function
    return function


def _explain(
    function: Callable[..., Any], args: tuple[Any, ...], error: TypeError, places: Callable[[], Places]
) -> None:
    """Raise a better error about the arguments of a function; return if the error is of another kind."""
    traceback = error.__traceback__
    if traceback is None or traceback.tb_next is not None:
        return  # it was raised inside
    own = named(function)
    who = type(args[0]).__name__ if function.__name__ == "__init__" else function.__qualname__
    if wrong := _UNEXPECTED.search(str(error)):
        raise TypeError(f"{who}({wrong[1]}=...): {advice(wrong[1], own, places())}") from None
    if _TOO_MANY.search(str(error)) and (by_name := named(function, inspect.Parameter.KEYWORD_ONLY)):
        raise TypeError(f"{who}(): give these by name: {', '.join(by_name)}") from None


def named(function: Callable[..., Any], *kinds: Any) -> list[str]:
    """The parameters that a caller can name; with `kinds`, those of these kinds."""
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind in (kinds or _NAMED) and each.name not in ("self", "cls")]


@functools.cache
def _taken(made: Callable[..., Any]) -> frozenset[str]:
    return frozenset(named(made))


def taken_by(owner: type) -> Iterator[str]:
    """The keywords of the constructor of a class, and of the constructors to which it may pass the rest."""
    for each in owner.__mro__:
        if "__init__" in vars(each):
            yield from named(vars(each)["__init__"])


def refuse_unknown(who: str, options: Iterable[str], known: Iterable[str], places: Callable[[], Places] = dict) -> None:
    """Refuse an option that none of those takes to whom it may be passed on."""
    known = dict.fromkeys(known)
    for name in options:
        if name not in known:
            raise TypeError(f"{who}({name}=...): {advice(name, known, places())}")


def explained_class(cls: C) -> C:
    """The same for an attrs class of settings, whose `__init__` is generated; its docstring lists the fields."""
    made: Any = cls
    made.__init__ = explained()(made.__init__)
    made.__doc__ = FieldDocs(made.__doc__ or "")
    return cls
