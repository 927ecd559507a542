"""The link to a plugin: a gRPC server in a process of ours, which starts and ends with the link.

Rules that hold here:

- One `open` is one attempt. It fails as soon as the process ends, whatever it was waiting for. If it does not succeed,
  it kills the process and gives everything back before it raises.
- A plugin that closes its connection in good order, for its age or because it was idle, stays in use: this host
  connects to it again, and the plugin still knows all that it was told. A plugin that accepts no more connections, and
  finishes its calls, is going away.
- The process decides why a link was lost. If the channel breaks, the link is lost; if the process has ended, that end
  is the reason.
- To end a plugin, the host asks it, then sends SIGTERM, then kills it. The channel is closed after the request and
  before SIGTERM, so nobody hears the server's farewell.
- A link that nobody closes does not outlive its loop: the task that keeps it is cancelled with the loop's others, and
  kills the process.

Logs go to the standard library's loggers, and are quiet unless asked for: what plugins print goes to `fsm_conn.plugin`
at INFO, or at the level of hclog's lines; what the client library says goes to `fsm_conn.pyvider` at DEBUG.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from fsm_conn._util import workers
from fsm_conn._util.text import brief
from fsm_conn.links.broker import Broker
from fsm_conn.links.errors import GoingAwayError, LinkLostError, NotServingError, PluginExitedError
from fsm_conn.links.grpc.calls import GrpcCalls
from fsm_conn.links.grpc.link import GrpcLink
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.grpc.metadata import carrying
from fsm_conn.links.plugin import diagnosis
from fsm_conn.links.process.paths import absolute
from fsm_conn.links.process.process import GRACE, PluginProcess
from fsm_conn.links.process.start_limiter import process_limiter
from fsm_conn.links.services import normalize_services
from fsm_conn.links.target import Plugin

if TYPE_CHECKING:
    from fsm_conn.links.plugin.client import PluginClient

__all__ = ["ASKED", "TOLD", "PluginLink"]

PING = "plugin"
"""The name of go-plugin's servers in their health service (`GRPCServiceName` in its `grpc_server.go`)."""
HANG_UP = 0.01
"""Seconds in which gRPC certainly hangs up. A server's farewell after that makes gRPC write a line to stderr."""
ASKED = 2.0
"""Seconds that a plugin has to end after it was asked; go-plugin's own client waits as long."""
TOLD = 1.0
"""Seconds between SIGTERM and SIGKILL for a plugin that was asked before, and did not end."""


class PluginLink(GrpcLink):
    """A plugin process, and the channel to it.

    Args:
        target: a `Plugin`, or its command.
        services: services that need no reflection.
        name: what log records and `repr` call the plugin.
        options: as for `Plugin`, if `target` is a command.
    """

    def __init__(
        self,
        target: Plugin | Sequence[str | os.PathLike[str]],
        *,
        services: Any = (),
        name: str = "",
        **options: Any,
    ) -> None:
        super().__init__(Loss(self._described, self._explained))
        self._services = normalize_services(services)
        self._plugin = plugin = target if isinstance(target, Plugin) else Plugin(target, **options)
        cwd = plugin.cwd
        self._cwd = None if cwd is None else os.path.normpath(absolute(cwd, None, "working directory"))
        self._name = name or os.path.basename(plugin.command[0])
        self._client: PluginClient | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_pinged = True

    def __repr__(self) -> str:
        return f"<PluginLink {self._name} {self._process or 'not started'}>"

    @property
    def _process(self) -> PluginProcess | None:
        return self._client.process if self._client is not None else None

    @property
    def pid(self) -> int | None:
        """The number of the plugin's process; None when it was not started."""
        return self._process.pid if self._process is not None else None

    @property
    def version(self) -> int | None:
        """The version of the application's protocol that the plugin chose; None before its handshake."""
        return self._client.version if self._client is not None else None

    @property
    def announced(self) -> tuple[str, str] | None:
        """Where the plugin said that it serves: `unix` and a path, or `tcp` and `host:port`; None before it said so."""
        return self._client.announced if self._client is not None else None

    @property
    def broker(self) -> Broker:
        """The plugin's broker. It ends with the link.

        Raises:
            LinkLostError: the link is not open.
        """
        calls = self._opened
        assert self._client is not None
        return self._client.broker(calls.connectivity, self._loss, self._show)

    def start_slot(self) -> AbstractAsyncContextManager[None]:
        """A slot of the limiter that lets one plugin per core start at a time."""
        return process_limiter().slot(self._plugin.command)

    def _show(self, said: str) -> str:
        """Make a plugin's words safe to show in an error: short, and without the values of `env`."""
        return brief(said if self._process is None else self._process.redact(said))

    def diagnostics(self) -> str:
        """What the plugin has printed, without secrets: its first line on stdout, or the part that there is, and the
        last lines on stderr. Works after a failed or cancelled `open`, too.
        """
        if self._process is None:
            return ""
        return "\n".join(filter(None, (self._process.first_words(), self._process.diagnostics())))

    async def open(self) -> None:
        """Start the plugin and connect to it: one attempt, without a time limit.

        Raises:
            LinkError: what went wrong, with the plugin's last words.
        """
        room = await workers.load("fsm_conn.links.plugin.client")
        client: PluginClient = room.PluginClient(self._plugin, self._cwd, self._name)
        self._client = client
        try:
            await client.start()
            self._take_over(client)
        except BaseException:
            await self._give_back(client)
            raise

    def _take_over(self, client: PluginClient) -> None:
        assert client.process is not None
        assert client.grpc_channel is not None
        channel = carrying(client.grpc_channel, self._plugin.metadata, "Plugin")
        self._calls = GrpcCalls(channel, self._services, self._loss, self._show, resumes=True)
        self._keeper = asyncio.create_task(self._keep(client, client.process))

    async def _keep(self, client: PluginClient, process: PluginProcess) -> None:
        """Watch the process until it ends; kill it when the loop ends first."""
        try:
            await asyncio.wait((process.exited,))
            self._loss.declare(diagnosis.exit_error(process, ""))
        except asyncio.CancelledError:
            client.abandon()
            raise

    def _described(self, symptom: Exception) -> Exception:
        """The end of the process as the reason, if it can be seen by now; else the symptom with what is known."""
        if self._process is None or isinstance(symptom, GoingAwayError):
            return symptom
        self._process.look()
        return diagnosis.loss(self._process, symptom)

    async def _explained(self, reason: Exception) -> Exception:
        """Wait a moment for the process to end, as it does after its sockets close: its end is the better reason."""
        if self._process is None or isinstance(reason, (GoingAwayError, PluginExitedError)):
            return reason
        # Counted from the loss, so that a later caller does not wait as long again.
        left = self._loss.since + diagnosis.SETTLE - asyncio.get_running_loop().time()
        await asyncio.wait((self._process.exited,), timeout=max(left, 0.0))
        return diagnosis.exit_error(self._process, "") if self._process.exited.done() else reason

    async def probe(self, service: str = "") -> bool:
        """Ask the health service, as `Health.probe`; about `plugin`, as go-plugin's `Ping` does, if none is named."""
        if not service and self._is_pinged:
            try:
                return await super().probe(PING)
            except NotServingError as error:
                if not _is_unknown(error):
                    raise
                self._is_pinged = False
        return await super().probe(service)

    def mark_unresponsive(self) -> None:
        """Declare that the plugin hangs. Its callers get an error, and `close` kills it at once, as after any loss."""
        symptom = LinkLostError("the peer did not answer any more")
        self._loss.declare(self._described(symptom), final=True)

    async def close(self) -> None:
        """End the plugin and close the channel. Bounded: about three seconds for a plugin that does not want to end.

        The plugin is asked first (go-plugin's `GRPCController.Shutdown`), so that it can do its work at the end. Then
        it gets SIGTERM, and then it is killed. A plugin that does not answer any more is killed at once. If this is
        cancelled, the plugin is killed and the rest is done at once. Calls in flight fail.
        """
        assert self._client is not None
        assert self._calls is not None
        is_well = self._loss.is_going_away or not self._calls.connectivity.refuses()
        # From here on the plugin ends because we want it to.
        self._loss.declare(LinkLostError("the link was closed"), final=True)
        try:
            await self._client.stop_streams()
            left = await self._client.ask_to_end(ASKED) if is_well else None
            await self._calls.close()
            if is_well and left is None:
                # gRPC closes the connection on a thread of its own, and does not tell when.
                await asyncio.sleep(HANG_UP)
            await self._client.stop_process(wait=left or 0, grace=0 if not is_well else GRACE if left is None else TOLD)
        finally:
            await self._give_back(self._client)

    async def _give_back(self, client: PluginClient) -> None:
        try:
            if self._calls is not None:
                await self._calls.close()
        finally:
            await client.close()
            if self._keeper is not None and self._process is not None and self._process.exited.done():
                await asyncio.wait((self._keeper,))


def _is_unknown(error: NotServingError) -> bool:
    """Whether the plugin was asked about a service that its health service does not know."""
    cause = error.__context__
    return isinstance(cause, grpc.aio.AioRpcError) and cause.code() is grpc.StatusCode.NOT_FOUND
