"""Which service, and which method, a name means: pure rules over the names that exist.

Why in a module of their own: users notice these rules, and without a channel around they are easiest to read and test.

Rules that hold here: the first rule with a match wins, so that a longer name never means something other than it says.
Two matches under one rule are an error and never a guess. An error about a name that does not exist lists the names
that do. The existing names come from a peer, so an error shows only the beginnings of a few, and the search for the
nearest one takes bounded time.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from fsm_conn._util.text import brief
from fsm_conn.links.errors import AmbiguousNameError, UnknownNameError

__all__ = ["is_infrastructure", "listing", "match_service", "nearest", "shown", "split_method", "unknown_method"]

_INFRASTRUCTURE = ("grpc.reflection.", "grpc.health.", "plugin.GRPC")
_LISTED = 20
_LONGEST = 80
"""Characters of one name that are shown, or compared when the nearest one is looked for."""
_COMPARED = 400
"""How many names are searched for the nearest one."""


def is_infrastructure(service: str) -> bool:
    """Whether a service belongs to gRPC or go-plugin itself: callable by its full name, and never suggested."""
    return service.startswith(_INFRASTRUCTURE)


def split_method(name: str, services: Sequence[str] = ()) -> tuple[str, str]:
    """Split `service.Method` at its last dot.

    Args:
        name: the name.
        services: the services that have the method, for the error about a method without a service.

    Raises:
        UnknownNameError: there is no dot, or nothing on one side of it, or it is a path of gRPC's.
    """
    service, _, method = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if not service or not method:
        given = repr(shown(name)) if isinstance(name, str) else f"a {type(name).__name__}"
        named = " or ".join(repr(shown(f"{each}.{name}")) for each in services)
        remedy = named or "'service.Method', such as 'calculator.Add'"
        raise UnknownNameError(f"{given} names no method: give {remedy}")
    if "/" in name:
        dotted = name.strip("/").replace("/", ".")
        raise UnknownNameError(f"{shown(name)!r} is a path: give {shown(dotted)!r}")
    return service, method


def shown(name: str) -> str:
    """A name as an error shows it."""
    return brief(name, _LONGEST)


def match_service(wanted: str, services: Collection[str]) -> str | None:
    """Return the full name of the service that `wanted` means, or None.

    Raises:
        AmbiguousNameError: more than one service matches under the first rule that matches.
    """
    if wanted in services:
        return wanted
    offered = [service for service in services if wanted and not is_infrastructure(service)]
    for matches in _by_rule(wanted, offered):
        if len(matches) > 1:
            raise AmbiguousNameError(f"{shown(wanted)!r} could mean {_either(matches)}: give the full name")
        if matches:
            return matches[0]
    return None


def _by_rule(wanted: str, services: Iterable[str]) -> Iterator[list[str]]:
    folded = wanted.casefold()
    rules: tuple[Callable[[str], bool], ...] = (
        lambda service: _short(service) == wanted,
        lambda service: _short(service).casefold() == folded,
        lambda service: _short(service).casefold() == folded + "service",
        lambda service: service.rpartition(".")[0] == wanted,
    )
    for rule in rules:
        yield sorted(filter(rule, services))


def _short(service: str) -> str:
    return service.rpartition(".")[2]


def _either(names: list[str]) -> str:
    if len(names) > _LISTED:
        return listing(names)
    *most, last = map(shown, names)
    return f"{', '.join(most)} or {last}"


def listing(names: Iterable[str]) -> str:
    """The names that may be shown, sorted, and not too many of them; 'none' if there are none."""
    found = sorted(name for name in names if not is_infrastructure(name))
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return (", ".join(map(shown, found[:_LISTED])) or "none") + more


def nearest(wanted: str, names: Iterable[str]) -> str:
    """`Did you mean 'x'? `, if a name is near enough; otherwise nothing."""
    by_alias: dict[str, str] = {}
    worth_it = (name for name in names if not is_infrastructure(name) and len(name) <= _LONGEST)
    for name in sorted(itertools.islice(worth_it, _COMPARED), reverse=True):
        by_alias |= {_short(name).casefold(): name, name.casefold(): name}
    close = difflib.get_close_matches(wanted[:_LONGEST].casefold(), by_alias, n=1)
    return f"Did you mean {shown(by_alias[close[0]])!r}? " if close else ""


def unknown_method(service: str, method: str, methods: Collection[str]) -> UnknownNameError:
    """The error for a method that a known service does not have."""
    suggestion = nearest(method, methods)
    return UnknownNameError(
        f"{shown(service)} has no method {shown(method)!r}. {suggestion}Its methods: {listing(methods)}."
    )
