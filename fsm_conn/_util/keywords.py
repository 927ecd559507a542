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
    "attempts": ("max_attempts",),
    "backoff": ("initial_delay", "multiplier"),
    "backoff_factor": ("multiplier",),
    "base": ("initial_delay", "multiplier"),
    "base_delay": ("initial_delay",),
    "cap": ("max_delay",),
    "channel_credentials": ("credentials",),
    "check_interval": ("interval",),
    "checksum": ("sha256",),
    "connect_timeout": ("start_timeout",),
    "connection_timeout": ("start_timeout",),
    "deadline": ("timeout", "deadline"),
    "delay": ("initial_delay",),
    "environ": ("env",),
    "environment": ("env",),
    "factor": ("multiplier",),
    "failures": ("failure_threshold",),
    "headers": ("metadata",),
    "health_check": ("health",),
    "health_check_interval": ("interval",),
    "health_policy": ("health",),
    "initial_backoff": ("initial_delay",),
    "max_backoff": ("max_delay",),
    "max_connections": ("pool_size", "max_overflow"),
    "max_interval": ("max_delay",),
    "max_message_length": ("max_message",),
    "max_retries": ("max_attempts",),
    "max_size": ("pool_size", "size", "max_overflow"),
    "max_wait": ("max_delay",),
    "min_size": ("pool_size", "size"),
    "period": ("interval", "restart_window"),
    "pool_timeout": ("acquire_timeout",),
    "proto": ("services",),
    "protos": ("services",),
    "restart_limit": ("max_restarts",),
    "retries": ("max_attempts",),
    "retry_budget": ("budget",),
    "retry_policy": ("retry",),
    "root_certificates": ("roots", "credentials"),
    "ssl": ("credentials", "mtls"),
    "stop_after": ("max_attempts",),
    "threshold": ("failure_threshold",),
    "timeout": ("start_timeout", "timeout", "acquire_timeout"),
    "tls": ("credentials", "mtls"),
    "tries": ("max_attempts",),
    "working_directory": ("cwd",),
}
"""The names that other libraries use, and ours for them."""

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


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
            return f"give {' or '.join(dict.fromkeys(found))}"
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
                wrong = _UNEXPECTED.search(str(error))
                if wrong is None or error.__traceback__ is None or error.__traceback__.tb_next is not None:
                    raise  # it is about something else, or was raised inside
                own = [each for each in inspect.signature(init).parameters if each != "self"]
                text = f"{type(self).__name__}({wrong[1]}=...): {advice(wrong[1], own, places())}"
                raise TypeError(text) from None

        return cast("Callable[Concatenate[S, P], None]", explaining)

    return decorate


def explained_class(cls: C) -> C:
    """The same for an attrs class of settings, whose `__init__` is generated; its docstring lists the fields."""
    made: Any = cls
    made.__init__ = explained()(made.__init__)
    made.__doc__ = FieldDocs(made.__doc__ or "")
    return cls
