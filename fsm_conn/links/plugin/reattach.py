"""The link to a plugin that somebody else started, under a debugger or before this host, and that goes on running."""

from __future__ import annotations

import asyncio
import os
import tempfile
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

import grpc.aio
from pyvider.rpcplugin.protocol.grpc_stdio_pb2_grpc import GRPCStdioStub

from fsm_conn._util.redact import Redactor
from fsm_conn._util.text import brief
from fsm_conn.links.broker import Broker
from fsm_conn.links.errors import LinkError, PluginExitedError
from fsm_conn.links.grpc.calls import GrpcCalls
from fsm_conn.links.grpc.endpoint import open_channel
from fsm_conn.links.grpc.link import GrpcLink
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.plugin.broker import PluginBroker
from fsm_conn.links.plugin.dialing import Dialler
from fsm_conn.links.plugin.stdio import read_stdio
from fsm_conn.links.process import system
from fsm_conn.links.process.output import LineLog
from fsm_conn.links.services import normalize_services
from fsm_conn.links.target import Endpoint, Reattach

__all__ = ["ReattachLink"]


class ReattachLink(GrpcLink):
    """A link to a running plugin. Closing it leaves the plugin alone.

    Args:
        target: where it runs.
        services: services that need no reflection, as for `normalize_services`.
    """

    def __init__(self, target: Reattach, *, services: Any = ()) -> None:
        super().__init__(Loss())
        self._services = normalize_services(services)
        self._target = target
        self._reading: asyncio.Task[None] | None = None
        self._pidfd: int | None = None
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
            own = unquote(self._target.address.removeprefix("unix:").removeprefix("//"))
            beside = os.path.dirname(own) if self._target.address.startswith("unix:") else tempfile.gettempdir()
            self._broker = PluginBroker(self._channel, calls.connectivity, self._loss, dialler, None, [beside], brief)
        return self._broker

    async def open(self) -> None:
        """Connect, once.

        Raises:
            LinkError: the process has ended, or cannot be reached.
        """
        target = self._target
        self._watch_process()
        try:
            endpoint = Endpoint(
                target.address, metadata=target.metadata, max_message=target.max_message, options=target.options
            )
            self._channel = channel = await open_channel(endpoint)
        except BaseException:
            self._unwatch_process()
            raise
        self._calls = GrpcCalls(channel, self._services, self._loss, reconnects=True, resumes=True)
        stub: Any = GRPCStdioStub(channel)  # type: ignore[no-untyped-call,unused-ignore]
        self._reading = asyncio.create_task(read_stdio(stub, self._log_of))

    def _log_of(self, stream: str) -> LineLog:
        extra = {"plugin_name": self._target.name, "plugin_pid": self._target.pid, "plugin_stream": stream}
        return LineLog(Redactor(), asyncio.get_running_loop().time, extra)

    def _watch_process(self) -> None:
        """Watch for the end of the process. It is no child of ours, so this needs a descriptor, if there is one."""
        pid = self._target.pid
        if pid is None:
            return
        try:
            self._pidfd = system.exit_descriptor(pid)
        except ProcessLookupError:
            raise LinkError(f"the plugin's process {pid} has ended, so there is nothing to reattach to") from None
        except OSError:
            return
        asyncio.get_running_loop().add_reader(self._pidfd, self._has_ended)

    def _has_ended(self) -> None:
        self._unwatch_process()
        self._loss.declare(PluginExitedError(f"the plugin's process {self._target.pid} ended"))

    def _unwatch_process(self) -> None:
        descriptor, self._pidfd = self._pidfd, None
        if descriptor is not None:
            with suppress(RuntimeError):
                asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    async def close(self) -> None:
        """Close the channel. Calls in flight fail; the plugin goes on running."""
        self._unwatch_process()
        reading = self._reading
        if reading is not None:
            reading.cancel()
        assert self._calls is not None
        try:
            if self._broker is not None:
                await self._broker.close()
        finally:
            await self._calls.close()
        if reading is not None:
            await asyncio.wait((reading,))
