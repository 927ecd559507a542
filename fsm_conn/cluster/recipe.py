"""Recipes: how plugins are served on another machine, as frozen values that can be pickled.

Rules that hold here:

- A recipe has no keys and no tokens, but the names of files and of environment variables. They are read on the machine
  that serves, and on the one that connects.
- What can be known to be wrong is refused when the recipe is made, and not on the machine that it is sent to.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import Any

import attrs

from fsm_conn._util.keywords import explained_class
from fsm_conn._util.reading import read_within, why_unread
from fsm_conn._util.validators import seconds, whole
from fsm_conn.cluster.errors import ServeError
from fsm_conn.connection.policy import DEFAULT_RETRY, HealthPolicy, RetryPolicy
from fsm_conn.links.target import Endpoint, Plugin, Tls

__all__ = ["Recipe", "ServeLimits", "TlsFiles", "Token"]

LARGEST_FILE = 1024 * 1024
"""Characters of a file with certificates or a token."""
SHORTEST_TOKEN = 16
"""Characters. A shorter token can be guessed."""


def _path(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise TypeError(f"{value!r}: give the path of a file")
    return str(os.fspath(value))


def _read(what: str, path: str) -> str:
    try:
        return read_within(path, LARGEST_FILE)
    except (OSError, ValueError) as error:
        raise ServeError(f"cannot read the {what} {path!r}: {why_unread(error)}") from None


@explained_class
@attrs.frozen(kw_only=True)
class TlsFiles:
    """Certificates by the paths of their PEM files. Each side reads the files that stand on its own machine."""

    certificate: str = attrs.field(converter=_path)
    """One's own certificate, with the chain that leads to it."""
    key: str = attrs.field(converter=_path)
    """The private key that goes with it."""
    authorities: str | None = attrs.field(default=None, converter=attrs.converters.optional(_path))
    """The authorities that sign for the other side. For a server, None: clients need no certificate, so they must have
    a token. For a client, None: the authorities that gRPC brings along."""
    server_name: str | None = None
    """For a client: the name in the server's certificate, where that is not the address; None: the address."""

    def server_context(self) -> ssl.SSLContext:
        """The TLS of a server: 1.2 or newer, HTTP/2 only, and clients' certificates are verified. Reads the files.

        Raises:
            ServeError: a file cannot be read, or has no usable certificate or key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        try:
            context.load_cert_chain(self.certificate, self.key)
            if self.authorities is not None:
                context.load_verify_locations(self.authorities)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            names = ", ".join(filter(None, (self.certificate, self.key, self.authorities)))
            raise ServeError(f"cannot use the certificates ({names}): {error}") from None
        return context

    def client_tls(self) -> Tls:
        """The TLS of a client. Reads the files.

        Raises:
            ServeError: a file cannot be read.
        """
        return Tls(
            roots=None if self.authorities is None else _read("authorities", self.authorities).encode(),
            certificate=_read("certificate", self.certificate).encode(),
            key=_read("key", self.key).encode(),
        )


def _named(token: Token, attribute: Any, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise TypeError(f"Token({attribute.name}={value!r}): give a name, or None")


@explained_class
@attrs.frozen(kw_only=True)
class Token:
    """Where a token is read from: `Token(env="NAME")` or `Token(file="/run/secrets/token")`."""

    env: str | None = attrs.field(default=None, validator=_named)
    """The environment variable that has it."""
    file: str | None = attrs.field(default=None, validator=_named)
    """The file that has it; white space around it does not count."""

    def __attrs_post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError("Token(...): give env= or file=, and not both")

    def read(self) -> str:
        """The token itself.

        Raises:
            ServeError: it is not there, or too short, or no printable ASCII.
        """
        if self.env is not None:
            where, value = f"the environment variable {self.env}", os.environ.get(self.env, "")
        else:
            assert self.file is not None
            where, value = f"the file {self.file!r}", _read("token", self.file)
        value = value.strip()
        if len(value) < SHORTEST_TOKEN or not value.isascii() or not value.isprintable():
            raise ServeError(
                f"{where} has no token: give {SHORTEST_TOKEN} printable ASCII characters or more, such as those that "
                "'openssl rand -hex 32' prints"
            )
        return value


@explained_class
@attrs.frozen(kw_only=True)
class ServeLimits:
    """What a server of plugins allows itself and its clients."""

    max_connections: int = attrs.field(default=1000, validator=whole(1))
    """Connections of clients at one time; one more is closed at once."""
    max_handshakes: int = attrs.field(default=100, validator=whole(1))
    """Connections at one time that have not yet proved who they are; for one more, the oldest of them is closed."""
    handshake_timeout: float = attrs.field(default=10.0, validator=seconds(zero=False))
    """Seconds for a handshake of TLS, and for a plugin to be there."""
    announce: float = attrs.field(default=0.5, validator=seconds(zero=True))
    """Seconds between saying that it drains, by its health and its members, and the GOAWAY to its clients."""
    drain_timeout: float = attrs.field(default=30.0, validator=seconds(zero=True))
    """Seconds for calls under way to end, after that."""


def _plugin(value: Any) -> Plugin:
    return value if isinstance(value, Plugin) else Plugin(value)


def _of(kind: type, *, none: bool = False) -> Any:
    def validate(recipe: Recipe, attribute: Any, value: object) -> None:
        if not (isinstance(value, kind) or (none and value is None)):
            otherwise = ", or None" if none else ""
            raise TypeError(f"Recipe({attribute.name}={value!r}): give a {kind.__name__}{otherwise}")

    return validate


@explained_class
@attrs.frozen(kw_only=True)
class Recipe:
    """What is served on a machine, and how it is reached: a value to be sent to other machines.

    recipe = Recipe(plugin=["python", "plugin.py"], plugins=2, tls=TlsFiles(certificate="c.pem", key="k.pem"))
    """

    plugin: Plugin = attrs.field(converter=_plugin)
    """The plugin, or its command. It is started where it is served, with the environment there."""
    plugins: int = attrs.field(default=1, validator=whole(1))
    """How many processes of it each machine has."""
    tls: TlsFiles | None = attrs.field(default=None, validator=_of(TlsFiles, none=True))
    """The certificates of the server, which are read where it serves."""
    client_tls: TlsFiles | None = attrs.field(default=None, validator=_of(TlsFiles, none=True))
    """The certificates of clients, which are read where they connect; None: the same files as `tls`."""
    token: Token | None = attrs.field(default=None, validator=_of(Token, none=True))
    """The token that clients show, and that the server knows."""
    retry: RetryPolicy = attrs.field(default=DEFAULT_RETRY, validator=_of(RetryPolicy))
    """When a plugin that has ended is started again."""
    health: HealthPolicy | None = attrs.field(default=None, validator=_of(HealthPolicy, none=True))
    """How the server watches its plugins; None: by their processes."""
    start_timeout: float = attrs.field(default=60.0, validator=seconds(zero=False))
    """Seconds for one start of a plugin."""
    limits: ServeLimits = attrs.field(factory=ServeLimits, validator=_of(ServeLimits))
    """What the server allows itself and its clients."""

    def __attrs_post_init__(self) -> None:
        if self.plugin.credentials is not None or self.plugin.mtls:
            raise ValueError(
                "Recipe(plugin=...): a served plugin has no TLS of its own, for its socket is in a private directory "
                "and the server in front of it has TLS: leave credentials= and mtls= away, and give Recipe(tls=...)"
            )
        if isinstance(self.plugin.stdin, int):
            raise ValueError("Recipe(plugin=...): an open file does not travel to another machine; leave stdin= away")

    def endpoint(self, address: str) -> Endpoint:
        """What a client connects to when such a server is at `address`. Reads the client's certificates and token.

        Raises:
            ServeError: one of the files, or the token, cannot be read here.
        """
        tls = self.client_tls or self.tls
        name = tls.server_name if tls is not None else None
        return Endpoint(
            address,
            credentials=None if tls is None else tls.client_tls(),
            metadata=() if self.token is None else (("authorization", f"Bearer {self.token.read()}"),),
            options=() if name is None else (("grpc.ssl_target_name_override", name),),
            max_message=self.plugin.max_message,
        )


def as_recipe(recipe: Recipe | Plugin | Sequence[str | os.PathLike[str]]) -> Recipe:
    """A recipe; or one made of a plugin or its command alone."""
    return recipe if isinstance(recipe, Recipe) else Recipe(plugin=recipe)
