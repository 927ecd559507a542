"""Explains a keyword that a constructor does not take: how it is called here, or where it belongs."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from fsm_conn._util.field_docs import FieldDocs

__all__ = ["Places", "advice", "explained", "explained_class"]

P = ParamSpec("P")
S = TypeVar("S")
C = TypeVar("C", bound=type)
Places = Mapping[str, Iterable[str]]
"""The places that take other keywords: how to write each, with `{}` for the keyword, and its keywords."""

WORDS: dict[str, tuple[str, ...]] = {
    "action": ("effects",),
    "actions": ("effects",),
    "addr": ("address", "target"),
    "address": ("target",),
    "after": ("effects",),
    "args": ("command", "target"),
    "attempts": ("max_attempts",),
    "backoff": ("initial_delay", "multiplier"),
    "backoff_factor": ("multiplier",),
    "base": ("initial_delay", "multiplier"),
    "base_delay": ("initial_delay",),
    "base_url": ("address", "target"),
    "before": ("effects",),
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
    "exponential_base": ("multiplier",),
    "factor": ("multiplier",),
    "failures": ("failure_threshold",),
    "from_state": ("source",),
    "guard": ("guards",),
    "headers": ("metadata",),
    "health_check": ("health",),
    "health_check_interval": ("interval",),
    "health_policy": ("health",),
    "host": ("address", "target"),
    "initial_backoff": ("initial_delay",),
    "keepalive": ("options",),
    "keyfile": ("key",),
    "magic_cookie": ("env",),
    "max": ("pool_size", "max_overflow"),
    "max_age": ("max_lifetime",),
    "max_backoff": ("max_delay",),
    "max_connections": ("pool_size", "max_overflow"),
    "max_interval": ("max_delay",),
    "max_message_length": ("max_message",),
    "max_retries": ("max_attempts",),
    "max_size": ("pool_size", "size", "max_overflow"),
    "max_tokens": ("burst",),
    "max_wait": ("max_delay",),
    "max_workers": ("pool_size", "size"),
    "maxsize": ("pool_size", "size", "max_overflow"),
    "min": ("pool_size", "size"),
    "min_size": ("pool_size", "size"),
    "on_connect": ("on_open",),
    "on_enter": ("entry",),
    "on_exit": ("exit",),
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
    "ssl": ("credentials", "mtls"),
    "stop_after": ("max_attempts",),
    "target": ("dest", "address", "command"),
    "threshold": ("failure_threshold",),
    "timeout": ("start_timeout", "timeout", "acquire_timeout"),
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

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
_TOO_MANY = re.compile(r"takes (?:from \d+ to )?(\d+) positional arguments? but \d+ were given")


def advice(name: str, own: Iterable[str], places: Places) -> str:
    """What to write instead of the keyword `name`, as the end of a sentence.

    Args:
        name: the keyword.
        own: the keywords that it takes.
        places: the places that take others.
    """
    known = list(own)
    for wanted in ((name, *WORDS.get(name, ())), _near(name, known, places)):
        found = [f"{word}=..." for word in wanted if word in known]
        found += [place.format(f"{word}=...") for word in wanted for place, words in places.items() if word in words]
        if found:
            how = f": {HOW[name]}" if name in HOW else ""
            return f"give {' or '.join(dict.fromkeys(found))}{how}"
    return f"it takes {', '.join(known)}"


def _near(name: str, own: Iterable[str], places: Places) -> list[str]:
    import difflib  # only errors need it

    known = dict.fromkeys([*own, *(word for words in places.values() for word in words)])
    return difflib.get_close_matches(name, known, n=1, cutoff=0.7)


def explained(
    places: Callable[[], Places] = dict,
) -> Callable[[Callable[Concatenate[S, P], None]], Callable[Concatenate[S, P], None]]:
    """Make an `__init__` explain a wrong keyword and say what to write instead.

    Args:
        places: returns the places that take other keywords; called only on an error.
    """

    def decorate(init: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
        @functools.wraps(init)
        def explaining(self: S, *args: P.args, **kwargs: P.kwargs) -> None:
            try:
                init(self, *args, **kwargs)
            except TypeError as error:
                if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                    raise  # it was raised inside
                own = list(inspect.signature(init).parameters)[1:]
                name = type(self).__name__
                if wrong := _UNEXPECTED.search(str(error)):
                    raise TypeError(f"{name}({wrong[1]}=...): {advice(wrong[1], own, places())}") from None
                if many := _TOO_MANY.search(str(error)):
                    by_name = ", ".join(own[int(many[1]) - 1 :])
                    raise TypeError(f"{name}(): give these by name: {by_name}") from None
                raise

        return cast("Callable[Concatenate[S, P], None]", explaining)

    return decorate


def explained_class(cls: C) -> C:
    """The same for an attrs class of settings, whose `__init__` is generated; its docstring lists the fields."""
    made: Any = cls
    made.__init__ = explained()(made.__init__)
    made.__doc__ = FieldDocs(made.__doc__ or "")
    return cls
