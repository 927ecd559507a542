"""The plugin's side of go-plugin's broker, for plugins in Python: what the demo of it needs, to be read or copied.

Each side tells the other, on one stream, where a numbered service listens. A plugin is the server of that stream.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pyvider.rpcplugin.protocol.grpc_broker_pb2 import ConnInfo
from pyvider.rpcplugin.protocol.grpc_broker_pb2_grpc import GRPCBrokerServicer

__all__ = ["PluginSideBroker", "new_certificate"]

OFFER_LIMIT = 5.0
"""Seconds for the host to offer what is dialled, as in go-plugin."""


def new_certificate() -> tuple[str, str]:
    """A certificate for a plugin that is a server and a client of its host, and its key, as PEM.

    On P-256, which gRPC takes, as not every curve. pyvider-rpcplugin's own certificates are for servers only.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(seconds=30))
        .not_valid_after(now + datetime.timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


class PluginSideBroker(GRPCBrokerServicer):
    """Serves and dials by number, from within a plugin.

    Args:
        certificate: the plugin's own, PEM; empty: without TLS.
        key: its key, PEM.
        host: the host's certificate, PEM, as `PLUGIN_CLIENT_CERT` has it.
    """

    def __init__(self, certificate: str = "", key: str = "", host: str = "") -> None:
        self._certificate, self._key, self._host = certificate.encode(), key.encode(), host.encode()
        self._last = 0
        self._outgoing: asyncio.Queue[ConnInfo] = asyncio.Queue()
        self._offers: dict[int, asyncio.Future[ConnInfo]] = {}
        self._servers: list[grpc.aio.Server] = []
        self._channels: list[grpc.aio.Channel] = []

    def next_id(self) -> int:
        """A number that this plugin has not used yet."""
        self._last += 1
        return self._last

    async def StartStream(self, request_iterator: AsyncIterator[ConnInfo], context: Any) -> AsyncIterator[ConnInfo]:
        """Listen to the host's offers, and send our own."""
        listening = asyncio.create_task(self._listen(request_iterator))
        try:
            while True:
                yield await self._outgoing.get()
        finally:
            listening.cancel()

    async def _listen(self, offers: AsyncIterator[ConnInfo]) -> None:
        async for offer in offers:
            offered = self._offer(offer.service_id)
            if not offered.done():
                offered.set_result(offer)

    def _offer(self, number: int) -> asyncio.Future[ConnInfo]:
        return self._offers.setdefault(number, asyncio.get_running_loop().create_future())

    async def serve(self, number: int, register: Callable[[grpc.aio.Server], object]) -> None:
        """Serve the host, under a number, until the plugin ends."""
        server = grpc.aio.server()
        register(server)
        path = os.path.join(tempfile.mkdtemp(), "s.sock")
        if self._certificate:
            pair = (self._key, self._certificate)
            credentials = grpc.ssl_server_credentials([pair], self._host, require_client_auth=True)
            server.add_secure_port(f"unix:{path}", credentials)
        else:
            server.add_insecure_port(f"unix:{path}")
        await server.start()
        self._servers.append(server)
        await self._outgoing.put(ConnInfo(service_id=number, network="unix", address=path))

    async def dial(self, number: int) -> grpc.aio.Channel:
        """Connect to what the host serves under a number. Keep the channel for all calls; it is closed with the broker.

        Raises:
            TimeoutError: it was not offered within five seconds.
        """
        async with asyncio.timeout(OFFER_LIMIT):
            offer = await self._offer(number)
        channel = self._channel(f"unix:{offer.address}")
        self._channels.append(channel)
        return channel

    def _channel(self, target: str) -> grpc.aio.Channel:
        if not self._certificate:
            return grpc.aio.insecure_channel(target)
        credentials = grpc.ssl_channel_credentials(self._host, self._key, self._certificate)
        return grpc.aio.secure_channel(target, credentials, [("grpc.ssl_target_name_override", "localhost")])

    async def close(self) -> None:
        """Serve no longer, and close what was dialled."""
        for channel in self._channels:
            await channel.close()
        for server in self._servers:
            await server.stop(None)
