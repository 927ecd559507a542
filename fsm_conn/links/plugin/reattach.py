"""The link to a plugin that somebody else started, under a debugger or before this host, and that may go on running."""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import Any
from urllib.parse import unquote

import grpc.aio
from pyvider.rpcplugin.protocol.grpc_controller_pb2_grpc import GRPCControllerStub
from pyvider.rpcplugin.protocol.grpc_stdio_pb2_grpc import GRPCStdioStub

from fsm_conn._util.redact import Redactor
from fsm_conn._util.text import brief
from fsm_conn.links.broker import Broker
from fsm_conn.links.errors import LinkLostError, PluginExitedError
from fsm_conn.links.grpc.calls import GrpcCalls
from fsm_conn.links.grpc.endpoint import open_channel
from fsm_conn.links.grpc.link import GrpcLink
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.grpc.metadata import for_own_calls
from fsm_conn.links.plugin.broker import PluginBroker
from fsm_conn.links.plugin.dialing import Dialler
from fsm_conn.links.plugin.ending import ask_to_end
from fsm_conn.links.plugin.hclog import heard_of
from fsm_conn.links.plugin.link import ASKED, TOLD
from fsm_conn.links.plugin.stdio import read_stdio
from fsm_conn.links.process.foreign import ForeignProcess
from fsm_conn.links.process.output import LineLog
from fsm_conn.links.services import normalize_services
from fsm_conn.links.target import Endpoint, Reattach

__all__ = ["ReattachLink"]


class ReattachLink(GrpcLink):
    """A link to a running plugin.

    Args:
        target: where it runs.
        services: services that need no reflection, as for `normalize_services`.
    """

    def __init__(self, target: Reattach, *, services: Any = ()) -> None:
        super().__init__(Loss())
        self._services = normalize_services(services)
        self._target = target
        self._heard = heard_of(target)
        self._reading: asyncio.Task[None] | None = None
        self._process = None if target.pid is None else ForeignProcess(target.pid, self._has_ended)
        self._channel: grpc.aio.Channel | None = None
        self._broker: PluginBroker | None = None

    @property
    def pid(self) -> int | None:
        """The number of the plugin's process, if the target gave it."""
        return self._target.pid

    @property
    def version(self) -> int:
        """The version of the application's protocol that the plugin speaks."""
        return self._target.version

    @property
    def broker(self) -> Broker:
        """The plugin's broker, which ends with the link. A Go plugin accepts one host in its life.

        Raises:
            LinkLostError: the link is not open.
        """
        calls = self._opened
        if self._broker is None:
            assert self._channel is not None
            dialler = Dialler(max_message=self._target.max_message, options=self._target.options)
            # A plugin makes all its sockets in one directory.
            beside = (
                os.path.dirname(self._socket) if self._target.address.startswith("unix:") else tempfile.gettempdir()
            )
            self._broker = PluginBroker(self._channel, calls.connectivity, self._loss, dialler, None, [beside], brief)
        return self._broker

    @property
    def _socket(self) -> str:
        return unquote(self._target.address.removeprefix("unix:").removeprefix("//"))

    async def open(self) -> None:
        """Connect, once.

        Raises:
            LinkError: the process has ended, or cannot be reached.
        """
        target = self._target
        if self._process is not None:
            self._process.watch()
        try:
            if self._process is not None and target.end_on_close:
                await self._process.must_listen_at(self._socket)
            endpoint = Endpoint(
                target.address, metadata=target.metadata, max_message=target.max_message, options=target.options
            )
            channel = await open_channel(endpoint)
            self._channel = for_own_calls(channel)
        except BaseException:
            if self._process is not None:
                self._process.unwatch()
            raise
        self._calls = GrpcCalls(channel, self._services, self._loss, reconnects=True, resumes=True)
        stub: Any = GRPCStdioStub(self._channel)  # type: ignore[no-untyped-call,unused-ignore]
        self._reading = asyncio.create_task(read_stdio(stub, self._log_of))

    def _log_of(self, stream: str) -> LineLog:
        extra = {"plugin_name": self._target.name, "plugin_pid": self._target.pid, "plugin_stream": stream}
        heard, clock = self._heard, asyncio.get_running_loop().time
        return LineLog(Redactor(), clock, extra, heard.read, heard.sinks.get(stream), heard.loudest)

    def _has_ended(self) -> None:
        self._loss.declare(PluginExitedError(f"the plugin's process {self._target.pid} ended"))

    async def close(self) -> None:
        """Close the channel. Calls in flight fail.

        The plugin goes on running, unless `end_on_close` is set and the link was not lost. Then it is ended as a plugin
        of ours is: asked, told by SIGTERM after two seconds, and killed after another one.
        """
        assert self._calls is not None
        ends = self._target.end_on_close and self._loss.reason is None
        self._loss.declare(LinkLostError("the link was closed"), final=True)
        try:
            await self._stop_streams()
            left = await self._ask() if ends else None
            await self._calls.close()
            if ends and self._process is not None:
                await self._process.end(left or 0, TOLD)
        finally:
            try:
                await self._calls.close()
            finally:
                if self._process is not None:
                    self._process.unwatch()

    async def _ask(self) -> float | None:
        stub: Any = GRPCControllerStub(self._channel)  # type: ignore[no-untyped-call,unused-ignore]
        return await ask_to_end(stub, ASKED)

    async def _stop_streams(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait((reading,))
        if self._broker is not None:
            await self._broker.close()
