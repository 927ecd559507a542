"""The peer of a command: a plugin to start, or a server, given by the words after `--`.

A single word that is an address means a server; anything else is the command of a plugin. An option that applies to
only one of the two is refused for the other, with a hint about what to do.
"""

from __future__ import annotations

import base64
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from fsm_conn._util.reading import read_within, why_unread
from fsm_conn._util.text import plain
from fsm_conn.cli.options import seconds
from fsm_conn.links.checking import checked_address
from fsm_conn.links.target import Endpoint, Plugin, Tls

__all__ = ["Peer", "PeerCommand", "peer_options", "show_plugin_output"]

F = TypeVar("F", bound=Callable[..., Any])

LARGEST_PEM = 1024 * 1024
"""Characters of the largest certificate file."""


@attrs.frozen(kw_only=True)
class Peer:
    """The peer of a command, and how to reach it."""

    words: tuple[str, ...]
    """The words after `--`."""
    start_timeout: float
    """Seconds for one attempt to reach the peer."""
    verbose: bool
    """Whether a plugin's output is shown."""
    env: tuple[tuple[str, str], ...]
    version: tuple[int, ...]
    mtls: bool | None
    metadata: tuple[tuple[str, str | bytes], ...]
    tls: bool
    cacert: Path | None
    cert: Path | None
    key: Path | None
    authority: str | None

    def target(self) -> Plugin | Endpoint:
        """The peer as a target for a connection.

        Raises:
            click.UsageError: there is no peer, or the options do not apply to it.
        """
        if not self.words:
            raise click.UsageError(
                "Give the plugin's command after '--', such as '-- python plugin.py', or an address, such as "
                "'-- 127.0.0.1:50051'."
            )
        try:
            return self._endpoint() if _is_address(self.words) else self._plugin()
        except (ValueError, TypeError) as error:
            raise click.UsageError(f"{error}.") from None

    def _endpoint(self) -> Endpoint:
        self._refuse("a plugin that is started, not for an address", env=self.env, version=self.version, mtls=self.mtls)
        given = {"roots": self.cacert, "certificate": self.cert, "key": self.key}
        files = {name: _pem(path) for name, path in given.items() if path is not None}
        tls = Tls(**files) if files or self.tls else None
        return Endpoint(self.words[0], credentials=tls, metadata=self.metadata, authority=self.authority)

    def _plugin(self) -> Plugin:
        self._refuse(
            "an address, not for a plugin that is started",
            tls=self.tls,
            cacert=self.cacert,
            cert=self.cert,
            key=self.key,
            authority=self.authority,
        )
        return Plugin(self.words, env=self.env, versions=self.version, mtls=self.mtls, metadata=self.metadata)

    def _refuse(self, kind: str, **options: Any) -> None:
        wrong = [f"--{name}" for name, value in options.items() if value not in (None, False, ())]
        if wrong:
            raise click.UsageError(f"{', '.join(wrong)}: for {kind}.")


def _is_address(words: tuple[str, ...]) -> bool:
    if len(words) != 1 or os.path.exists(words[0]):
        return False
    word = words[0]
    try:
        checked_address(word)
    except ValueError:
        # The user meant an address, and the error will say what is wrong with it.
        return "://" in word or word.startswith("unix:") or (word.lower() == "localhost" and shutil.which(word) is None)
    return True


def _pem(path: Path) -> bytes:
    try:
        return read_within(path, LARGEST_PEM).encode()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"cannot read {str(path)!r}: {why_unread(error)}") from None


class PeerCommand(click.Command):
    """A command with a peer: the peer's words follow `--`. The command receives words and options as `peer`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Separate the words after the first `--`, and combine them with the peer's options."""
        at = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:at])
        if not ctx.resilient_parsing:
            own = {each.name: ctx.params.pop(each.name) for each in attrs.fields(Peer) if each.name in ctx.params}
            ctx.params["peer"] = Peer(words=tuple(args[at + 1 :]), **own)
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """The usual pieces, and the peer at the end."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND... | ADDRESS"]


def peer_options(function: F) -> F:
    """Add the options that say how to reach the peer."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = [value.partition("=") for value in values]
    if not all(name and equals for name, equals, _ in pairs):
        raise click.UsageError(f"{param.opts[0]} takes NAME=VALUE.", ctx)
    return tuple((name, value) for name, _, value in pairs)


def _headers(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str | bytes], ...]:
    """`NAME=VALUE`, or `NAME: VALUE`, as in grpcurl and curl: in any case, and in base64 for names in `-bin`."""
    split = (value.partition(":") if ":" in value.partition("=")[0] else value.partition("=") for value in values)
    pairs = _pairs(ctx, param, tuple(f"{name}{'=' * bool(sign)}{value.strip()}" for name, sign, value in split))
    try:
        return tuple(
            (name.lower(), _decoded(value) if name.lower().endswith("-bin") else value) for name, value in pairs
        )
    except ValueError:
        raise click.UsageError(
            f"{param.opts[0]}: the values of names that end in '-bin' must be in base64.", ctx
        ) from None


def _decoded(value: str) -> bytes:
    return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)


def _file(flag: str, help: str) -> Callable[[F], F]:
    return click.option(flag, type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help=help)


_OPTIONS = (
    seconds("--start-timeout", "Seconds for one attempt to start the plugin or to reach the address.", default=60.0),
    click.option("--verbose", "-v", is_flag=True, help="Show on stderr what the plugin prints."),
    click.option(
        "--env", multiple=True, callback=_pairs, metavar="NAME=VALUE", help="Plugin: set an environment variable of it."
    ),
    click.option(
        "--version",
        type=click.IntRange(0),
        multiple=True,
        metavar="N",
        help="Plugin: offer this version of the application's protocol; may be repeated.",
    ),
    click.option(
        "--mtls/--no-mtls",
        default=None,
        help="Plugin: require or disable mutual TLS. By default it is used where the plugin supports it.",
    ),
    click.option(
        *("--metadata", "-H"),
        multiple=True,
        callback=_headers,
        metavar="NAME=VALUE",
        help="Send this metadata with every call; in base64 for names that end in -bin. May be repeated.",
    ),
    click.option(
        "--tls",
        is_flag=True,
        help="Address: use TLS with gRPC's own roots. Without this and the next three options: plain text.",
    ),
    _file("--cacert", "Address: TLS, by these roots (PEM)."),
    _file("--cert", "Address: the client's certificate (PEM), with --key."),
    _file("--key", "Address: its private key (PEM)."),
    click.option("--authority", metavar="NAME", help="Address: the host name for calls and TLS."),
)


def show_plugin_output() -> None:
    """Write the output of plugins to stderr, line by line."""
    logger = logging.getLogger("fsm_conn.plugin")
    logger.setLevel(logging.INFO)
    logger.addHandler(_PlainLines())
    logger.propagate = False


class _PlainLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write one line of a plugin. The stream is looked up now, because a drawing on the terminal replaces it."""
        try:
            print(f"| {plain(record.getMessage())}", file=sys.stderr, flush=True)
        except OSError:
            self.handleError(record)
