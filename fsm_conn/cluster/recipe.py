"""Recipes: immutable, picklable values that say how plugins are served on another machine.

Rules that hold here:

- A recipe holds no keys or tokens, only names of files and environment variables. The serving and the connecting
  machine read them.
- An error shows no value that may be a secret by mistake, such as a key instead of the path of its file.
- Mistakes are refused when the recipe is created, not on the machine that it is sent to.
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
"""The largest file with certificates or a token, in characters."""
SHORTEST_TOKEN = 16
"""Characters. A shorter token can be guessed."""
REFUSED = "fsm-conn-refused"
"""The header of an answer to a call whose token was refused: no plugin has seen the call."""


def _path(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise TypeError(f"{_kind(value)}: give the path of a file")
    path = str(os.fspath(value))
    if "-----BEGIN" in path:
        raise ValueError("this is what a PEM file contains: give the path of the file")
    return path


def _kind(value: object) -> str:
    """What errors say of a wrong value: it may be the very secret whose place was asked for."""
    return f"{type(value).__name__}" if value else f"{value!r}"


def _read(what: str, path: str) -> str:
    try:
        return read_within(path, LARGEST_FILE)
    except (OSError, ValueError) as error:
        raise ServeError(f"cannot read the {what} {path!r}: {why_unread(error)}") from None


def _no_password() -> str:
    """In place of OpenSSL's own question, which would wait at the terminal for ever."""
    raise ValueError("the key needs a password, and nobody can be asked for it: give one without")


@explained_class
@attrs.frozen(kw_only=True)
class TlsFiles:
    """Certificates by the paths of their PEM files. Each side reads the files on its own machine."""

    certificate: str = attrs.field(converter=_path)
    """The certificate of this side, with its chain."""
    key: str = attrs.field(converter=_path)
    """The private key of the certificate."""
    authorities: str | None = attrs.field(default=None, converter=attrs.converters.optional(_path))
    """The authorities that sign the other side's certificates. For a server, None: clients need no certificate, so they
    must have a token. For a client, None: the authorities that come with gRPC."""
    server_name: str | None = None
    """For a client: the name in the server's certificate; None: its address."""

    def server_context(self) -> ssl.SSLContext:
        """The TLS context of a server: TLS 1.2 or newer, HTTP/2 only, clients' certificates verified. Reads the files.

        Raises:
            ServeError: a file cannot be read, or has no usable certificate or key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
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
        raise TypeError(f"Token({attribute.name}={_kind(value)}): give a name, or None")


@explained_class
@attrs.frozen(kw_only=True)
class Token:
    """The place of a token: `Token(env="NAME")` or `Token(file="/run/secrets/token")`."""

    env: str | None = attrs.field(default=None, validator=_named)
    """The environment variable that holds it."""
    file: str | None = attrs.field(default=None, validator=_named)
    """The file that holds it; surrounding white space is ignored."""

    def __attrs_post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError("Token(...): give env= or file=, and not both")

    def read(self) -> str:
        """The token itself.

        Raises:
            ServeError: it is missing, too short, or not printable ASCII.
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
    """The limits of a server of plugins."""

    max_connections: int = attrs.field(default=1000, validator=whole(1))
    """Simultaneous connections of clients; one more is closed at once."""
    max_handshakes: int = attrs.field(default=100, validator=whole(1))
    """Simultaneous connections that have not authenticated yet; for one more, the oldest of them is closed."""
    handshake_timeout: float = attrs.field(default=10.0, validator=seconds(zero=False))
    """Seconds for a TLS handshake, and for a plugin to be available."""
    announce: float = attrs.field(default=0.5, validator=seconds(zero=True))
    """Seconds between the announcement that it drains, by its health and its members, and the GOAWAY to its clients."""
    drain_timeout: float = attrs.field(default=30.0, validator=seconds(zero=True))
    """Seconds for calls under way to end after the GOAWAY."""


def _plugin(value: Any) -> Plugin:
    return value if isinstance(value, Plugin) else Plugin(value)


def _of(kind: type, *, none: bool = False) -> Any:
    def validate(recipe: Recipe, attribute: Any, value: object) -> None:
        if not (isinstance(value, kind) or (none and value is None)):
            otherwise = ", or None" if none else ""
            raise TypeError(f"Recipe({attribute.name}={_kind(value)}): give a {kind.__name__}{otherwise}")

    return validate


@explained_class
@attrs.frozen(kw_only=True)
class Recipe:
    """Says which plugins a machine serves and how clients reach them: a value that can be sent to other machines.

    recipe = Recipe(plugin=["python", "plugin.py"], plugins=2, tls=TlsFiles(certificate="c.pem", key="k.pem"))
    """

    plugin: Plugin = attrs.field(converter=_plugin)
    """The plugin, or its command. It is started on the serving machine, with the environment there."""
    plugins: int = attrs.field(default=1, validator=whole(1))
    """How many processes of it each machine runs."""
    tls: TlsFiles | None = attrs.field(default=None, validator=_of(TlsFiles, none=True))
    """The certificates of the server, read where it serves."""
    client_tls: TlsFiles | None = attrs.field(default=None, validator=_of(TlsFiles, none=True))
    """The certificates of clients, read where they connect; None: the same files as `tls`."""
    token: Token | None = attrs.field(default=None, validator=_of(Token, none=True))
    """The token that clients send and the server checks."""
    retry: RetryPolicy = attrs.field(default=DEFAULT_RETRY, validator=_of(RetryPolicy))
    """Sets when a plugin that has ended is started again."""
    health: HealthPolicy | None = attrs.field(default=None, validator=_of(HealthPolicy, none=True))
    """Sets how the server watches its plugins; None: only their processes."""
    start_timeout: float = attrs.field(default=60.0, validator=seconds(zero=False))
    """Seconds for one start of a plugin."""
    limits: ServeLimits = attrs.field(factory=ServeLimits, validator=_of(ServeLimits))
    """The limits of the server."""

    def __attrs_post_init__(self) -> None:
        if self.plugin.credentials is not None or self.plugin.mtls:
            raise ValueError(
                "Recipe(plugin=...): a served plugin has no TLS of its own: its socket is in a private directory "
                "and the server in front of it has TLS: omit credentials= and mtls=, and give Recipe(tls=...)"
            )
        if isinstance(self.plugin.stdin, int):
            raise ValueError("Recipe(plugin=...): an open file does not travel to another machine; leave stdin= away")

    def endpoint(self, address: str) -> Endpoint:
        """The target for a client of such a server at `address`. Reads the client's certificates and token.

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
    """Return a recipe, made from a plugin or its command if necessary."""
    return recipe if isinstance(recipe, Recipe) else Recipe(plugin=recipe)
