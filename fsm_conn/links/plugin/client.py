"""The only module of this package that uses the inside of pyvider-rpcplugin's client.

The client knows go-plugin's protocol: certificates, credentials, stubs of the services that every plugin has. The rest
of what it does (processes, pipes, retries, waiting) is unusable in a program that has other things to do, so this
module overrides those parts. `WHAT_WE_RELY_ON` lists what is used and what is replaced. A test compares that list with
what is installed, so that a new version cannot change silently under us.

Rules that hold here:

- One attempt per `start`. It may be cancelled at any await.
- No executor, no timer of the client's own, no blocking call.
- Whatever the client's own code logs goes to the standard logger `fsm_conn.pyvider`, at DEBUG.
- Importing this module takes a third of a second: see `workers.load`.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from pyvider.rpcplugin.client import RPCPluginClient
from pyvider.rpcplugin.config import rpcplugin_config

from fsm_conn._util.redact import Redactor, Unshown
from fsm_conn._util.secret_values import secrets_around, secrets_in
from fsm_conn._util.text import brief
from fsm_conn.links.errors import HandshakeError, IncompatibleProtocolError, LinkError
from fsm_conn.links.grpc.channel import channel_credentials
from fsm_conn.links.grpc.connectivity import Connectivity
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.plugin import diagnosis
from fsm_conn.links.plugin.broker import PluginBroker
from fsm_conn.links.plugin.certificates import make_certificate
from fsm_conn.links.plugin.dialing import Dialled, Dialler
from fsm_conn.links.plugin.ending import ask_to_end
from fsm_conn.links.plugin.handshake import Address, Handshake, offered_versions
from fsm_conn.links.plugin.hclog import heard_of
from fsm_conn.links.plugin.stdio import read_stdio
from fsm_conn.links.plugin.tls_relay import Credentials, TlsRelay
from fsm_conn.links.process.output import Heard
from fsm_conn.links.process.paths import absolute
from fsm_conn.links.process.process import DIRECTORY_NAMES, GRACE, PluginProcess
from fsm_conn.links.target import Plugin

__all__ = ["SUPPORTED", "WHAT_WE_RELY_ON", "PluginClient"]

SUPPORTED = ">= 0.5.5, < 0.6"
"""The versions of pyvider-rpcplugin whose inside this module knows. setup.cfg repeats it."""

WHAT_WE_RELY_ON: Mapping[str, str] = {
    # used as they are
    "start": "(self) -> 'None'",
    "_attempt_single_handshake": "(self: 'RPCPluginClient', attempt_num: 'int | None' = None) -> 'None'",
    "_complete_handshake_setup": "(self: 'RPCPluginClient', attempt_num: 'int | None' = None) -> 'None'",
    "_init_stubs": "(self: 'RPCPluginClient') -> 'None'",
    "_reset_state": "(self) -> 'None'",
    # replaced
    "_connect_and_handshake_with_retry": "(self: 'RPCPluginClient') -> 'None'",
    "_setup_client_certificates": "(self: 'RPCPluginClient') -> 'None'",
    "_launch_process": "(self: 'RPCPluginClient') -> 'None'",
    "_perform_handshake": "(self: 'RPCPluginClient') -> 'None'",
    "_get_channel_options": "(self) -> 'list[tuple[str, int | bool | str]]'",
    "_create_grpc_channel": "(self: 'RPCPluginClient') -> 'None'",
    "_read_stdio_logs": "(self: 'RPCPluginClient') -> 'None'",
    "close": "(self) -> 'None'",
}
"""The client's methods, with their signatures."""

INHERITED_FROM_OUR_HOST = (
    "PLUGIN_CLIENT_CERT",
    "PLUGIN_CLIENT_KEY",
    "PLUGIN_CLIENT_ROOT_CERTS",
    "PLUGIN_MAX_PORT",
    "PLUGIN_MIN_PORT",
    "PLUGIN_MULTIPLEX_GRPC",
    "PLUGIN_PROTOCOL_VERSIONS",
    "PLUGIN_UNIX_SOCKET_GROUP",
)
"""Variables that a host sets for its plugin. When this process is a plugin itself, its own plugins do not get them."""

MULTIPLEXED = " (perhaps it expects a multiplexed connection: leave PLUGIN_MULTIPLEX_GRPC out of its environment)"

MADE_FOR_ONE_LINK = ("PLUGIN_CLIENT_CERT", "PLUGIN_CLIENT_ROOT_CERTS")
"""Variables of a plugin that differ at each start."""


class _StandardLogger:
    """Stands in for the client's logger."""

    _logger = logging.getLogger("fsm_conn.pyvider")

    def _log(self, message: str, *args: Any, exc_info: Any = None, **_: Any) -> None:
        self._logger.debug("%s", message, exc_info=exc_info)

    debug = info = warning = error = exception = critical = trace = _log

    def is_debug_enabled(self) -> bool:
        return self._logger.isEnabledFor(logging.DEBUG)


class PluginClient(RPCPluginClient):
    """A client for one attempt at starting a plugin, and for the plugin that this starts.

    Args:
        plugin: what to start.
        cwd: the directory it starts in, absolute; None: that of this process.
        name: what log records call it.

    Attributes:
        process: the plugin's process, as soon as there is one. It is kept after the client was closed, as evidence.
        grpc_channel: the channel, once `start` has returned.
    """

    def __init__(self, plugin: Plugin, cwd: str | None = None, name: str = "") -> None:
        super().__init__(command=list(plugin.command))
        self.logger = _StandardLogger()
        self.process: PluginProcess | None = None
        self._dialled: Dialled | None = None
        self._broker: PluginBroker | None = None
        self._may_multiplex = False
        self._plugin = plugin
        self._given = Unshown(plugin.env)
        self._cwd = cwd
        self._name = name
        self._env = Unshown()

    @property
    def version(self) -> int | None:
        """The version of the application's protocol that the plugin chose; None before its handshake."""
        return self._protocol_version

    @property
    def announced(self) -> tuple[str, str] | None:
        """The network and the address that the plugin announced; None before its handshake."""
        return None if self._transport_name is None or self._address is None else (self._transport_name, self._address)

    def __repr__(self) -> str:
        """Replaces the base's `repr`, which shows the private key."""
        return f"<PluginClient {self._name} {self.process or 'not started'}>"

    # -- one attempt -------------------------------------------------------------------------------------------------

    async def _connect_and_handshake_with_retry(self) -> None:
        await self._attempt_single_handshake()

    async def _perform_handshake(self) -> None:
        await self._setup_client_certificates()
        await self._launch_process()
        assert self.process is not None
        offered = offered_versions(self._env.get("PLUGIN_PROTOCOL_VERSIONS", ""))
        self._accept(await diagnosis.read_handshake(self.process, offered, self._directories()))

    def _accept(self, handshake: Handshake) -> None:
        if self._plugin.mtls and not handshake.certificate:
            raise IncompatibleProtocolError(
                "the plugin answered without a certificate, and mtls=True asks for one: turn on automatic mTLS in the "
                "plugin, or leave mtls= away"
            )
        self._address = handshake.address
        self._transport_name = handshake.network
        self._protocol_version = handshake.app_version
        self._server_cert = handshake.certificate or None
        self._may_multiplex = handshake.may_multiplex
        self.target_endpoint = handshake.target

    async def _setup_client_certificates(self) -> None:
        if self._plugin.mtls is False or self._plugin.credentials is not None:
            return
        self.client_cert, self.client_key_pem = make_certificate(rpcplugin_config.plugin_cert_validity_days)

    # -- the process -------------------------------------------------------------------------------------------------

    async def _launch_process(self) -> None:
        self._env = self._environment()
        self.process = await PluginProcess.spawn(
            self._plugin.command,
            env=self._env,
            cwd=self._cwd,
            name=self._name,
            redact=self._redactor(),
            heard=self._heard(),
            own_directory=[name for name in DIRECTORY_NAMES if name not in self._given],
            sha256=self._plugin.sha256,
            stdin=self._plugin.stdin,
            user=self._plugin.user,
            group=self._plugin.group,
            prefork=self._plugin.prefork,
            varying=MADE_FOR_ONE_LINK,
        )

    def _environment(self) -> Unshown:
        """The plugin's environment: the host's, then what a host tells its plugin, and last what the user sets."""
        inherited = os.environ if self._plugin.inherit_env else {}
        env = Unshown({name: value for name, value in inherited.items() if name not in INHERITED_FROM_OUR_HOST})
        env["PYTHONUNBUFFERED"] = "1"
        env[rpcplugin_config.plugin_magic_cookie_key] = rpcplugin_config.plugin_magic_cookie_value
        if self.client_cert:
            # With this variable pyvider's server verifies its client; else it takes any. Go plugins always verify.
            env["PLUGIN_CLIENT_ROOT_CERTS"] = self.client_cert
        if self._plugin.versions:
            env["PLUGIN_PROTOCOL_VERSIONS"] = ",".join(map(str, self._plugin.versions))
        env.update(self._given)
        if self.client_cert:
            env["PLUGIN_CLIENT_CERT"] = self.client_cert
        return env

    def _heard(self) -> Heard:
        return heard_of(self._plugin)

    def _directories(self) -> list[str]:
        """Where the user told the plugin to put its socket."""
        given = {name: directory for name in DIRECTORY_NAMES if (directory := self._given.get(name))}
        return [absolute(directory, self._cwd, name) for name, directory in given.items()]

    def _redactor(self) -> Redactor:
        cookie = self._env.get(rpcplugin_config.plugin_magic_cookie_key, "")
        given = secrets_in(self._given, set(os.environ.values()), self._plugin.command)
        return Redactor([*given, *secrets_around(os.environ), cookie])

    # -- the channel -------------------------------------------------------------------------------------------------

    def _get_channel_options(self) -> list[tuple[str, int | bool | str]]:
        return self.dialler().channel_options()

    def dialler(self) -> Dialler:
        """How to speak to the plugin, as far as its handshake has said so far."""
        return Dialler(
            tls=self._credentials(),
            given=channel_credentials(self._plugin.credentials),
            max_message=self._plugin.max_message,
            options=self._plugin.options,
        )

    def _credentials(self) -> Credentials | None:
        if not self._server_cert:
            return None
        return Credentials(
            server=base64.b64decode(self._server_cert),
            client=self.client_cert or "",
            client_key=self.client_key_pem or "",
        )

    async def _create_grpc_channel(self) -> None:
        assert self.process is not None
        connecting = asyncio.ensure_future(self._connect())
        try:
            await diagnosis.unless_exited(self.process, connecting, f"right after its handshake{self._hint}")
            connecting.result()
        finally:
            connecting.cancel()
            await asyncio.wait((connecting,))
        self._init_stubs()

    async def _connect(self) -> None:
        assert self._transport_name is not None
        assert self._address is not None
        try:
            address = Address(network=self._transport_name, address=self._address)
            self._dialled = await self.dialler().dial(address)
        except LinkError:  # A LinkError is an OSError, too, and has its own words.
            raise
        except OSError as error:
            raise self._unreachable(error) from None
        except ValueError as error:
            raise HandshakeError(
                f"the plugin announced a certificate that cannot be read: {error}", evidence=self._diagnostics()
            ) from None
        self.grpc_channel = self._dialled.channel

    @property
    def _relay(self) -> TlsRelay | None:
        return self._dialled.relay if self._dialled is not None else None

    def _unreachable(self, why: object) -> HandshakeError:
        return HandshakeError(
            f"the plugin announced {self._transport_name} {self._told(self._address)}, which cannot be reached: "
            f"{self._told(why)}{self._hint}",
            evidence=self._diagnostics(),
        )

    @property
    def _hint(self) -> str:
        return MULTIPLEXED if self._may_multiplex else ""

    def _told(self, words: object) -> str:
        assert self.process is not None
        return brief(self.process.redact(str(words)), 400)

    def _diagnostics(self) -> str:
        assert self.process is not None
        return self.process.diagnostics()

    # -- the plugin's own output, over the channel -------------------------------------------------------------------

    async def _read_stdio_logs(self) -> None:
        """Read what the plugin prints. go-plugin's servers send it over a stream, and may block until it is read."""
        assert self.process is not None
        await read_stdio(self._stdio_stub, self.process.log_of)

    def broker(self, connectivity: Connectivity, loss: Loss, show: Callable[[str], str]) -> PluginBroker:
        """The plugin's broker, made when it is first asked for."""
        if self._broker is None:
            assert self.grpc_channel is not None
            assert self.process is not None
            directories = (self.process.directory, *self._directories())
            own, dialler = self._plugin.credentials, self.dialler()
            user = self.process.user
            self._broker = PluginBroker(self.grpc_channel, connectivity, loss, dialler, own, directories, show, user)
        return self._broker

    # -- the end -----------------------------------------------------------------------------------------------------

    async def stop_streams(self) -> None:
        """End our streams: a server that is told to stop may wait for its calls to end."""
        await self._stop_reading()
        if self._broker is not None:
            await self._broker.close()

    async def _stop_reading(self) -> None:
        # A cancelled task keeps its frames, and with them the call, which would keep the connection open.
        reading, self._stdio_task = self._stdio_task, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait((reading,))

    async def ask_to_end(self, limit: float) -> float | None:
        """Ask the plugin to end, as `ending.ask_to_end`."""
        assert self._controller_stub is not None
        return await ask_to_end(self._controller_stub, limit)

    async def stop_process(self, *, wait: float = 0, grace: float = GRACE) -> None:
        """End the plugin, as `PluginProcess.stop`."""
        if self.process is not None:
            await self.process.stop(grace, wait=wait)

    def abandon(self) -> None:
        """End the plugin and the connection to it, as the loop ends. Blocks for some milliseconds."""
        if self.process is not None:
            self.process.abandon()
        if self._broker is not None:
            self._broker.abort()
        if self._dialled is not None:
            self._dialled.abort()

    async def close(self) -> None:
        """Give back everything. The process, if it still runs, is killed."""
        if self.process is not None:
            self.process.kill_now()
        if self._dialled is not None:
            self._dialled.abort()
        try:
            await self.stop_streams()
            await self.stop_process(grace=0)
        finally:
            self.grpc_channel = None
            if self._dialled is not None:
                await self._dialled.close()
            self._reset_state()
