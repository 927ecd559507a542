"""go-plugin's broker, the host's side: services that the host serves to its plugin, and those that the plugin offers.

Both sides tell each other, on one stream, where a numbered service listens (`/plugin.GRPCBroker/StartStream`, in
go-plugin's `grpc_broker.go`). Whoever dials a number makes a separate connection to that place.

Rules that hold here:

- The stream is opened when the broker is first used, and ends before the plugin is asked to end. A Go plugin accepts
  one stream in its life.
- What the plugin announces decides where this host connects to, so nothing in it is taken on faith: a socket must be
  in a directory of the plugin's, another address must be on loopback, and the server there must show the plugin's
  certificate.
- Offers are kept until they are dialled, up to a bounded number; go-plugin drops them after five seconds.
- Everything that was served or dialled ends with the link. Nothing is left behind, whatever is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
from pyvider.rpcplugin.protocol.grpc_broker_pb2 import ConnInfo
from pyvider.rpcplugin.protocol.grpc_broker_pb2_grpc import GRPCBrokerStub

from fsm_conn._util.keywords import explained
from fsm_conn._util.text import brief
from fsm_conn.links.broker import Broker
from fsm_conn.links.errors import BrokerError, LinkError, LinkLostError
from fsm_conn.links.grpc import health_service
from fsm_conn.links.grpc.connectivity import Connectivity
from fsm_conn.links.grpc.loss import Loss
from fsm_conn.links.grpc.stub_channel import StubChannel
from fsm_conn.links.plugin.dialing import Dialled, Dialler
from fsm_conn.links.plugin.handshake import Address, wrong_address
from fsm_conn.links.plugin.served import Served, identity_of
from fsm_conn.links.plugin.socket_file import what_is_wrong
from fsm_conn.links.process import directory

__all__ = ["BrokeredChannel", "PluginBroker"]

logger = logging.getLogger("fsm_conn.process")

MOST_OFFERS = 1024
"""The number of undialled offers that are kept; the oldest are dropped."""
LONGEST_OFFER = 4096
"""Characters of an offered address: the longest path. Nothing longer can be dialled."""
LARGEST_ID = 2**32 - 1
SHAM = (
    "the plugin's broker acknowledges what it is offered, and does nothing with it, as pyvider-rpcplugin's own does: "
    "register another GRPCBroker service in the plugin, after that one"
)
PING_LIMIT = 1.0
"""Seconds for the health answer. After it, a plugin without a broker has certainly said so."""


class BrokeredChannel(StubChannel):
    """A channel to a service that the plugin has offered. Unlike the link's channel, it may be closed."""

    def __init__(
        self, dialled: Dialled, connectivity: Connectivity, loss: Loss, on_end: Callable[[BrokeredChannel], None]
    ) -> None:
        super().__init__(dialled.channel, connectivity, loss)
        self._dialled = dialled
        self._on_end = on_end

    async def close(self, grace: float | None = None) -> None:  # type: ignore[override]
        """Close the channel. Calls under way have `grace` seconds to end."""
        try:
            if grace:
                await self._dialled.channel.close(grace)
        finally:
            self._on_end(self)
            await self._dialled.close()

    async def __aenter__(self) -> BrokeredChannel:  # type: ignore[override]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()


class PluginBroker(Broker):
    """The broker of one open link.

    Args:
        channel: the link's channel.
        connectivity: the channel's connection, where calls through the broker's channels are counted, too.
        loss: the end of the link.
        dialler: how to speak to the plugin.
        own: the user's own credentials, if any.
        directories: where sockets that the plugin offers may be.
        show: makes the plugin's words safe to show.
        user: the number of the user that the plugin runs as; None: this one.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        connectivity: Connectivity,
        loss: Loss,
        dialler: Dialler,
        own: Any,
        directories: Sequence[str],
        show: Callable[[str], str],
        user: int | None = None,
    ) -> None:
        self._user = user
        self._channel = channel
        self._connectivity = connectivity
        self._loss = loss
        self._dialler = dialler
        self._own = own
        self._directories = directories
        self._show = show
        self._last_id = 0
        self._stream: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._ended = ""
        self._is_sham = False
        self._offers: dict[int, Address] = {}
        self._news = asyncio.Event()
        self._private = ""
        self._sockets = 0
        self._sending = asyncio.Lock()
        self._writing: set[asyncio.Task[None]] = set()
        self._served: set[Served] = set()
        self._channels: set[BrokeredChannel] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<PluginBroker serves {len(self._served)}, has dialled {len(self._channels)}>"

    def next_id(self) -> int:
        """A number that this host has not used yet, counted from 1 as in go-plugin."""
        self._last_id = self._last_id % LARGEST_ID + 1
        return self._last_id

    # -- the stream --------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Open the stream, once, and find out whether the plugin has a broker at all.

        Raises:
            BrokerError, LinkLostError: the plugin has no broker, or there is no plugin any more.
        """
        await self._check()
        if self._stream is None:
            stub: Any = GRPCBrokerStub(self._channel)  # type: ignore[no-untyped-call,unused-ignore]
            self._stream = stub.StartStream()
            self._reading = asyncio.create_task(self._read(self._stream))
            # gRPC reports the stream's answer only with the first message. But a refusal arrives before the answer to a
            # question that was asked later, so such a question is asked here.
            with suppress(grpc.aio.AioRpcError):
                await health_service.ask(self._channel, "plugin", timeout=PING_LIMIT)
        await self._check()

    async def _check(self) -> None:
        if self._closed or (self._loss.reason is not None and not self._loss.is_going_away):
            reason = await self._loss.wait() if self._loss.reason is not None else None
            raise LinkLostError(f"the broker has ended with its link: {reason or 'it was closed'}") from reason
        if self._ended:
            raise BrokerError(self._ended)

    async def _read(self, stream: Any) -> None:
        try:
            async for info in stream:
                if info is not None:  # gRPC could not parse it
                    self._take(info)
            self._ended = "the plugin has closed its broker: one in Go takes one host in its life"
        except grpc.aio.AioRpcError as error:
            if await self._connectivity.is_lost_after(error):
                pass  # the link says why
            elif error.code() is grpc.StatusCode.UNIMPLEMENTED:
                self._ended = "the plugin has no broker: serve go-plugin's GRPCBroker in it"
            else:
                said = self._show(error.details() or "")
                self._ended = f"the broker's stream has ended: {error.code().name}: {said}"
        finally:
            self._news.set()

    def _take(self, info: ConnInfo) -> None:
        """Take a message: an offer of a service, or something about multiplexing, which was not asked for."""
        if info.HasField("knock"):
            if info.knock.ack and not info.knock.knock and not self._is_sham:
                self._is_sham = True
                logger.warning("%s", SHAM)
            return
        self._offers.pop(info.service_id, None)
        while len(self._offers) >= MOST_OFFERS:
            del self._offers[next(iter(self._offers))]
        network, address = info.network[:LONGEST_OFFER], info.address[:LONGEST_OFFER]
        self._offers[info.service_id] = Address(network=network, address=address)  # and nothing else of the message
        self._news.set()

    # -- serving -----------------------------------------------------------------------------------------------------

    @explained()
    async def serve(
        self,
        register: Callable[[grpc.aio.Server], object],
        *,
        service_id: int | None = None,
        interceptors: Sequence[Any] = (),
        options: Sequence[tuple[str, Any]] = (),
    ) -> Served:
        """Serve the plugin, as `Broker.serve`."""
        number = self.next_id() if service_id is None else _checked_id(service_id)
        identity = identity_of(self._dialler, self._own)
        if identity is None:
            raise BrokerError(
                "the link has TLS, and no certificate to serve with: give "
                "Plugin(credentials=Tls(roots=..., certificate=..., key=...)), or let mtls= have them made"
            )
        await self._start()
        served = await Served.start(
            number,
            self._new_path(),
            identity,
            register,
            interceptors=interceptors,
            options=options,
            max_message=self._dialler.max_message,
            on_end=self._served.discard,
        )
        self._served.add(served)
        try:
            if self._user is not None:  # the plugin's user gets the socket, and may reach it
                os.chown(served.path, self._user, -1)
                os.chmod(self._private, 0o711)  # noqa: S103
            await self._send(ConnInfo(service_id=number, network="unix", address=served.path))
        except BaseException:
            await served.close()
            raise
        return served

    async def _send(self, info: ConnInfo) -> None:
        """Send a message. If the caller is cancelled, the write goes on: to cancel it would end the stream."""
        writing = asyncio.create_task(self._write(info))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.wait((writing,))
        if not writing.cancelled() and writing.exception() is not None and self._reading is not None:
            # The stream has ended, and its reader is about to learn why.
            await asyncio.wait((self._reading,), timeout=PING_LIMIT)
            self._ended = self._ended or f"the broker's stream has ended: {writing.exception()}"
        await self._check()

    async def _write(self, info: ConnInfo) -> None:
        async with self._sending:
            if self._stream is not None:
                await self._stream.write(info)

    def _new_path(self) -> str:
        self._private = self._private or directory.make(for_others=self._user is not None)
        self._sockets += 1
        return os.path.join(self._private, f"{self._sockets}.sock")

    # -- dialling ----------------------------------------------------------------------------------------------------

    @explained()
    async def dial(self, service_id: int, *, timeout: float = 5.0) -> BrokeredChannel:
        """Connect to what the plugin offers, as `Broker.dial`."""
        number = _checked_id(service_id)
        try:
            async with asyncio.timeout(timeout):
                await self._start()
                offer = await self._offered(number)
                dialled = await self._dialled(number, offer)
        except TimeoutError:
            raise BrokerError(
                f"the plugin did not offer service {number} within {timeout:g} s, or it was not reached: "
                + (
                    SHAM
                    if self._is_sham
                    else "the plugin must serve that number through its broker, and go on serving it"
                )
            ) from None
        channel = BrokeredChannel(dialled, self._connectivity, self._loss, self._channels.discard)
        self._channels.add(channel)
        if self._closed:
            await channel.close()
            await self._check()
        return channel

    async def _offered(self, number: int) -> Address:
        while number not in self._offers:
            self._news.clear()
            await self._news.wait()
            await self._check()
        return self._offers.pop(number)

    async def _dialled(self, number: int, offer: Address) -> Dialled:
        where = f"{offer.network} {offer.address}"
        wrong = wrong_address(offer.network, offer.address, lambda network: repr(self._told(network)))
        if wrong is not None:
            raise BrokerError(f"the plugin's offer of service {number} {' '.join(wrong)}: {self._told(where)}")
        if offer.network == "unix":
            fault = what_is_wrong(offer.address, self._directories, self._user)
            if fault:
                raise BrokerError(f"the plugin offers service {number} at a socket that {fault}: {self._told(where)}")
        try:
            return await self._dialler.dial(offer)
        except LinkError:
            raise
        except OSError as error:
            raise BrokerError(
                f"the plugin offers service {number} at {self._told(where)}, which cannot be reached: "
                f"{self._told(str(error))}"
            ) from None

    def _told(self, words: str) -> str:
        return brief(self._show(words), 400)

    # -- the end -----------------------------------------------------------------------------------------------------

    def abort(self) -> None:
        """End the broker as the loop ends: nothing can be awaited any more."""
        self._closed = True
        self._news.set()
        for served in self._served:
            served.abort()
        for channel in self._channels:
            channel._dialled.abort()
        self._remove()

    def _remove(self) -> None:
        private, self._private = self._private, ""
        if private:
            directory.remove(private)

    async def close(self) -> None:
        """End the stream, and everything that was served or dialled. Bounded; may be called again."""
        self._closed = True
        self._news.set()
        try:
            # A reference to the stream, or to a task that was cancelled in it, would keep the connection open.
            reading, self._reading = self._reading, None
            stream, self._stream = self._stream, None
            if reading is not None:
                stream.cancel()
                tasks = [reading, *self._writing]
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                del tasks, task
            del reading, stream
            ends = [*(served.close() for served in self._served), *(each.close() for each in self._channels)]
            await asyncio.gather(*ends, return_exceptions=True)
        finally:
            self._remove()


def _checked_id(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= LARGEST_ID:
        raise TypeError(f"service_id={number!r}: give the number of a service, from 0 to {LARGEST_ID}")
    return number
