"""The targets of connections: immutable values, checked when created, that can be compared and pickled.

`Connection` takes short forms of them, too: a list of strings is a `Plugin`, an address an `Endpoint`. Anything else
that can be reached is a callable that makes a `Link`.

No value here imports grpc or pyvider: a connection that is never opened costs neither.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any, Literal

import attrs

from fsm_conn._util import workers
from fsm_conn._util.keywords import explained, explained_class
from fsm_conn._util.secret_values import without_secrets
from fsm_conn._util.text import listed, quoted
from fsm_conn._util.validators import whole
from fsm_conn.links import checking
from fsm_conn.links.base import Link
from fsm_conn.links.services import normalize_services

__all__ = ["Endpoint", "LazyFactory", "LinkFactory", "Plugin", "Reattach", "Target", "Tls", "resolve_target"]

Pairs = tuple[tuple[str, str | bytes], ...]
Metadata = Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]]


@explained_class
@attrs.frozen(kw_only=True)
class Tls:
    """Certificates for TLS, as PEM. Unlike `grpc.ChannelCredentials` they can be compared and pickled."""

    roots: bytes | None = None
    """Certificates of the trusted authorities; None: those that come with gRPC."""
    certificate: bytes | None = attrs.field(default=None, repr=False)
    """The client's own certificate, with its chain; None: the client has none."""
    key: bytes | None = attrs.field(default=None, repr=False)
    """The private key of the certificate. Not shown in `repr`."""

    def __attrs_post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("Tls(...): give both certificate= and key=, or neither")


def _credentials(credentials: Any) -> Any:
    if credentials is not None and not isinstance(credentials, Tls) and not hasattr(credentials, "_credentials"):
        raise TypeError(f"credentials={type(credentials).__name__}: give Tls(...), grpc.ChannelCredentials, or None")
    return credentials


def _renewable(credentials: Any) -> Any:
    return credentials if callable(credentials) else _credentials(credentials)


def _mtls(mtls: bool | None) -> bool | None:
    if mtls not in (None, True, False):
        raise TypeError(
            f"mtls={type(mtls).__name__}: for a command give True, False, or None for wherever the plugin can"
        )
    return mtls


def _plugin_metadata(metadata: Metadata | Callable[[], Metadata]) -> Pairs | Callable[[], Metadata]:
    source: Pairs | Callable[[], Metadata] = checking.checked_source(metadata, "Plugin")
    return source


def _command(command: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    return checking.checked_command(command)


@explained_class
@attrs.frozen
class Plugin:
    """A go-plugin plugin: a child process, started and ended with its link."""

    command: tuple[str, ...] = attrs.field(converter=_command)
    """The program and its arguments. It is started without a shell."""
    env: tuple[tuple[str, str], ...] = attrs.field(
        default=None, kw_only=True, repr=False, converter=checking.checked_env
    )
    """Additional environment variables, such as the plugin's magic cookie. Kept out of errors and logs."""
    inherit_env: bool = attrs.field(default=True, kw_only=True, converter=checking.checked_inheritance)
    """Whether it inherits the environment of this process (go-plugin: `SkipHostEnv`)."""
    cwd: str | None = attrs.field(default=None, kw_only=True, converter=checking.checked_cwd)
    """The directory it starts in; None: that of this process."""
    user: str | int | None = attrs.field(default=None, kw_only=True, converter=checking.checked_account)
    """The user that it runs as, by name or number, with that user's groups; None: that of this process. For root."""
    group: str | int | None = attrs.field(default=None, kw_only=True, converter=checking.checked_account)
    """The group that it runs as; None: the user's own."""
    mtls: bool | None = attrs.field(default=None, kw_only=True, converter=_mtls)
    """Mutual TLS, with certificates for each link. None: where the plugin supports it; True: required; False: off."""
    credentials: Any = attrs.field(default=None, kw_only=True, converter=_credentials, repr=False)
    """`Tls`, or `grpc.ChannelCredentials`, for a plugin that brings its own TLS (go-plugin: `TLSConfig`)."""
    metadata: Pairs | Callable[[], Metadata] = attrs.field(
        default=(), kw_only=True, converter=_plugin_metadata, repr=False
    )
    """Sent with every call, as for `Endpoint`."""
    versions: tuple[int, ...] = attrs.field(default=(), kw_only=True, converter=checking.checked_versions)
    """The offered versions of the application's protocol; empty: any version of the plugin."""
    sha256: str | None = attrs.field(default=None, kw_only=True, converter=checking.checked_digest)
    """The SHA-256 digest that the program must have, 64 hexadecimal digits (go-plugin: `SecureConfig`). A sealed copy
    is executed, which nobody can change after it was compared. Linux only."""
    stdin: Literal["null", "inherit"] | int = attrs.field(
        default="null", kw_only=True, converter=checking.checked_stdin
    )
    """Its standard input: `"null"`, `"inherit"` (that of this process), or the number of an open file descriptor."""
    stdout: Callable[[bytes], object] | None = attrs.field(
        default=None, kw_only=True, converter=checking.checked_sink, repr=False
    )
    """A function that is called in the loop with each chunk of bytes that the plugin prints on stdout after its
    handshake, unredacted; such as the `write` of a binary file. It must not block. (go-plugin: `SyncStdout`.)"""
    stderr: Callable[[bytes], object] | None = attrs.field(
        default=None, kw_only=True, converter=checking.checked_sink, repr=False
    )
    """The same for stderr, from its start. (go-plugin: `Stderr` and `SyncStderr`.)"""
    log_levels: bool = attrs.field(default=True, kw_only=True)
    """Whether lines of hclog (JSON or text) are logged at their own level, JSON with its module and fields. All other
    lines are logged at INFO."""
    prefork: bool | tuple[str, ...] = attrs.field(default=False, kw_only=True, converter=checking.checked_prefork)
    """Whether a Python plugin is forked from a template process that has imported its libraries, where that is
    possible. True: the program's first imports; or the names of the modules to import. Not with `sha256` and
    `stdin`."""
    max_message: int = attrs.field(default=checking.LARGEST_MESSAGE, kw_only=True, converter=checking.checked_size)
    """The size of the largest message in bytes, in both directions. The default is go-plugin's, 2^31-1."""
    options: tuple[tuple[str, int | str | bytes], ...] = attrs.field(
        default=(), kw_only=True, converter=checking.checked_options
    )
    """gRPC's channel arguments. They win over those that a link sets by itself."""

    def __attrs_post_init__(self) -> None:
        if self.credentials is not None and self.mtls:
            raise ValueError("mtls=True makes certificates, and credentials= brings them: give one of the two")
        if self.prefork and (self.sha256, self.stdin, self.user, self.group) != (None, "null", None, None):
            raise ValueError("prefork= forks a template of this user: not with sha256=, stdin=, user= and group=")

    @property
    def name(self) -> str:
        """The program, and for an interpreter its script; nothing more, because arguments may carry secrets."""
        return checking.command_name(self.command)

    def maker(self, services: Any, name: str) -> LazyFactory:
        """What makes links to it.

        Raises:
            ValueError: this is Windows.
        """
        checking.must_have_plugins(sys.platform)
        return LazyFactory("fsm_conn.links.plugin.link", "PluginLink", self, services=services, name=name)


def _address(address: str) -> str:
    if not isinstance(address, str):
        raise TypeError(f"{type(address).__name__} is no address: give a string such as '127.0.0.1:50051'")
    return checking.checked_address(address)


def _metadata(metadata: Metadata | Callable[[], Metadata]) -> Pairs | Callable[[], Metadata]:
    source: Pairs | Callable[[], Metadata] = checking.checked_source(metadata, "Endpoint")
    return source


@explained_class
@attrs.frozen
class Endpoint:
    """A gRPC server that runs already."""

    address: str = attrs.field(converter=_address)
    """The address: `host:port`, `unix:/run/x.sock`, or another gRPC name, such as `dns:///host:port` or
    `ipv4:10.0.0.1:80,10.0.0.2:80`."""
    credentials: Any = attrs.field(default=None, kw_only=True, converter=_renewable, repr=False)
    """`Tls`, or `grpc.ChannelCredentials` (which cannot be pickled); None: plain text. A function that returns one of
    these is called at each attempt to connect, for certificates that are replaced; it must not block for long."""
    metadata: Pairs | Callable[[], Metadata] = attrs.field(default=(), kw_only=True, converter=_metadata, repr=False)
    """Metadata for every call, including calls of compiled stubs, health probes and reflection; a call's own value for
    a key wins. A function is called for each call, for tokens that expire; it must not block. What it raises, the call
    raises; health probes then go without metadata."""
    authority: str | None = attrs.field(default=None, kw_only=True)
    """The `:authority` of calls; None: gRPC's default, and `localhost` for sockets, which some servers require."""
    max_message: int | None = attrs.field(
        default=None, kw_only=True, converter=attrs.converters.optional(checking.checked_size)
    )
    """The size of the largest message in bytes, in both directions; None: gRPC's default, 4 MiB for replies."""
    compression: Any = attrs.field(default=None, kw_only=True, converter=checking.checked_compression)
    """The compression of requests: `"gzip"`, `"deflate"` or a `grpc.Compression`; None: off."""
    interceptors: tuple[Any, ...] = attrs.field(default=(), kw_only=True, converter=tuple)
    """Interceptors of `grpc.aio`, for every call."""
    options: tuple[tuple[str, int | str | bytes], ...] = attrs.field(
        default=(), kw_only=True, converter=checking.checked_options
    )
    """gRPC's channel arguments. They win over those that a link sets by itself."""

    @property
    def name(self) -> str:
        """The address, without secrets."""
        return without_secrets(self.address)

    def maker(self, services: Any, name: str) -> LazyFactory:
        """What makes links to it."""
        return LazyFactory("fsm_conn.links.grpc.endpoint", "EndpointLink", self, services=services)


@explained_class
@attrs.frozen
class Reattach:
    """A plugin that runs already, for example under a debugger. It goes on running when its link is closed."""

    address: str = attrs.field(converter=_address)
    """Its address: `unix:/tmp/plugin.sock` or `127.0.0.1:1234`."""
    pid: int | None = attrs.field(default=None, kw_only=True, converter=checking.checked_pid)
    """Its process id, so that its end is noticed; None: only the connection is watched."""
    version: int = attrs.field(default=1, kw_only=True, validator=whole(0))
    """The version of the application's protocol."""
    end_on_close: bool = attrs.field(default=False, kw_only=True, converter=checking.checked_ending)
    """Whether the plugin is ended when its link is closed, as by `disconnect()` and `reconnect()`, and was not lost
    before (go-plugin: `Kill`). It is asked, gets SIGTERM after two seconds, and is killed one second later. Linux only;
    needs `pid` and a unix address, so that nobody but the process that listens there gets the signals."""
    stdout: Callable[[bytes], object] | None = attrs.field(
        default=None, kw_only=True, converter=checking.checked_sink, repr=False
    )
    """A function that is called with each chunk of bytes that the plugin prints on stdout, as for `Plugin`."""
    stderr: Callable[[bytes], object] | None = attrs.field(
        default=None, kw_only=True, converter=checking.checked_sink, repr=False
    )
    """The same for stderr. What it printed before its handshake went to those who started it."""
    log_levels: bool = attrs.field(default=True, kw_only=True)
    """Whether lines of hclog are logged at their own level, as for `Plugin`."""
    metadata: Pairs | Callable[[], Metadata] = attrs.field(
        default=(), kw_only=True, converter=_plugin_metadata, repr=False
    )
    """Sent with every call, as for `Endpoint`."""
    max_message: int = attrs.field(default=checking.LARGEST_MESSAGE, kw_only=True, converter=checking.checked_size)
    """The size of the largest message in bytes, in both directions."""
    options: tuple[tuple[str, int | str | bytes], ...] = attrs.field(
        default=(), kw_only=True, converter=checking.checked_options
    )
    """gRPC's channel arguments. They win over those that a link sets by itself."""

    def __attrs_post_init__(self) -> None:
        if self.end_on_close and (self.pid is None or not self.address.startswith("unix:")):
            raise ValueError("end_on_close=True needs pid= and a unix: address, to end no process but the plugin's")

    @classmethod
    @explained()
    def from_env(cls, variable: str = "TF_REATTACH_PROVIDERS", plugin: str | None = None) -> Reattach:
        """Read the JSON that a plugin under a debugger prints, in Terraform's form.

        Args:
            variable: the environment variable.
            plugin: the plugin's name, such as `registry.terraform.io/hashicorp/null`; None: the only one there is.

        Raises:
            ValueError: the variable is not set, is not such JSON, or does not name that plugin.
        """
        told: Any = None
        with suppress(KeyError, ValueError, RecursionError):
            told = json.loads(os.environ[variable])
        try:
            found = told[plugin] if plugin is not None else next(iter(told.values()))
            several = plugin is None and len(told) > 1
            network, where = found["Addr"]["Network"], found["Addr"]["String"]
            pid, version = found.get("Pid"), found.get("ProtocolVersion", 1)
            if found.get("Protocol", "grpc") != "grpc":
                raise ValueError(f"{variable} tells of a plugin that does not serve gRPC: set GRPCServer in it")
            if not several:
                return cls(f"unix:{where}" if network == "unix" else where, pid=pid, version=version)
        except (KeyError, TypeError, AttributeError, StopIteration):
            asked = "a plugin" if plugin is None else quoted(plugin)
            raise ValueError(
                f"{variable} does not tell where {asked} runs: it must be JSON as Terraform's providers "
                'print it, {"NAME": {"Protocol": "grpc", "Pid": 1, "Addr": {"Network": "unix", "String": "..."}}}'
            ) from None
        raise ValueError(f"{variable} tells of {len(told)} plugins: name one of {listed([*map(quoted, told)])}")

    @property
    def name(self) -> str:
        """The address."""
        return self.address

    def maker(self, services: Any, name: str) -> LazyFactory:
        """What makes links to it. Raises as `Plugin.maker`."""
        checking.must_have_plugins(sys.platform)
        return LazyFactory("fsm_conn.links.plugin.reattach", "ReattachLink", self, services=services)


LinkFactory = Callable[[], Link]
Target = Plugin | Endpoint | Reattach | Sequence[str | os.PathLike[str]] | str | LinkFactory


def resolve_target(
    target: Target,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    mtls: Any = None,
    services: Any = None,
    name: str | None = None,
) -> tuple[LinkFactory, str]:
    """A maker of links to `target`, and a name for it.

    Args:
        target: a `Plugin`, an `Endpoint` or a `Reattach`; a command as a list of strings, an address, or a callable
            that makes a `Link`.
        env: for a command: environment variables on top of this process's own.
        cwd: for a command: the directory it starts in.
        mtls: for a command: None, True or False.
        services: pb2 modules or service descriptors, for peers without reflection.
        name: what to call it; None for a name made from the target.

    Raises:
        TypeError, ValueError: the target, or an option for it, is wrong; the message says what to give instead.
    """
    if isinstance(target, (Plugin, Endpoint, Reattach)):
        own = "a Plugin, which has its own: give it there, or use attrs.evolve(plugin, ...) for a changed copy"
        other = f"{type(target).__name__}(...), only with a command"
        _reject(own if isinstance(target, Plugin) else other, env=env, cwd=cwd, mtls=mtls)
        found: Plugin | Endpoint | Reattach = target
    elif isinstance(target, str):
        shown = without_secrets(target)
        _reject(f"an address, only with a command ({shown!r})", env=env, cwd=cwd)
        found = Endpoint(target)
        if mtls is not None:
            raise TypeError(
                f"mtls= is for plugins, and {shown!r} is an address: give Endpoint({shown!r}, credentials=Tls(...)) "
                "as the target"
            )
    elif callable(target):
        _reject("a callable that makes links, only with a command", env=env, cwd=cwd, mtls=mtls, services=services)
        return target, name or str(getattr(target, "__name__", type(target).__name__)).replace("<lambda>", "link")
    else:
        found = Plugin(target, env=env, cwd=cwd, mtls=mtls)
    name = name or found.name
    return found.maker(normalize_services(services), name), name


def _reject(kind: str, **options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{', '.join(name + '=' for name in given)} cannot be used with {kind}")


class LazyFactory:
    """A maker of links whose module is imported when the first of them is needed.

    That takes some tenths of a second, so `load` does it on a thread of the package's own while the loop goes on.
    """

    __slots__ = ("_arguments", "_keywords", "_module", "_name")

    def __init__(self, module: str, name: str, /, *arguments: Any, **keywords: Any) -> None:
        self._module = module
        self._name = name
        self._arguments = arguments
        self._keywords = keywords

    def __call__(self) -> Link:
        """Make a link."""
        link: Link = getattr(_loaded(self._module), self._name)(*self._arguments, **self._keywords)
        return link

    async def load(self) -> None:
        """Import what the link needs, if that was not done yet."""
        if self._module not in _modules:
            await workers.run("spawner", _loaded, self._module)


_modules: dict[str, ModuleType] = {}


def _loaded(module: str) -> ModuleType:
    if module not in _modules:
        _import_grpc()
        _modules[module] = importlib.import_module(module)
    return _modules[module]


def _import_grpc() -> None:
    """Import grpc so that its core does not write notes of its own on stderr, unless somebody wants them.

    It reads GRPC_VERBOSITY when it is imported. A host that imports it earlier decides for itself.
    """
    if "grpc" in sys.modules or "GRPC_VERBOSITY" in os.environ:
        return
    os.environ["GRPC_VERBOSITY"] = "ERROR"
    try:
        import grpc.aio  # noqa: F401
    finally:
        del os.environ["GRPC_VERBOSITY"]
