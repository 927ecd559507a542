"""A `Link` written from nothing: questions and answers by datagrams, with the calls of a `Connection`.

python examples/recipes/own_link.py
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from fsm_conn import CallOptions, Connection, Link, LinkError, LinkLostError


class Asking(asyncio.DatagramProtocol):
    """The socket's end: what was answered, and when the socket is gone."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[str] = asyncio.Queue()
        self.gone: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.answers.put_nowait(data.decode())

    def error_received(self, exc: Exception) -> None:
        if not self.gone.done():
            self.gone.set_result(LinkLostError(f"nobody listens: {exc}"))


class DatagramLink(Link):
    """One question at a time. It is lost when the system says that nobody listens there any more."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.turn = asyncio.Lock()

    async def open(self) -> None:
        loop, address = asyncio.get_running_loop(), ("127.0.0.1", self.port)
        self.socket, self.asking = await loop.create_datagram_endpoint(Asking, remote_addr=address)
        try:
            if await self.ask("hello") != "HELLO":
                raise LinkError(f"port {self.port} does not speak our protocol")
        except BaseException:
            self.socket.close()  # whatever ends the attempt, also its cancellation
            raise

    async def close(self) -> None:
        self.socket.close()

    async def lost(self) -> Exception:
        return await asyncio.shield(self.asking.gone)

    async def call(self, method: str, request: Any, fields: Mapping[str, Any], options: CallOptions | None) -> Any:
        return await self.ask(f"{method} {request}")

    async def ask(self, question: str) -> str:
        async with self.turn:
            self.socket.sendto(question.encode())
            answer = asyncio.ensure_future(self.asking.answers.get())
            try:
                await asyncio.wait((answer, self.asking.gone), return_when=asyncio.FIRST_COMPLETED)
                if not answer.done():
                    raise self.asking.gone.result()
                return answer.result()
            finally:
                answer.cancel()


class Upper(asyncio.DatagramProtocol):
    """A server to try it with."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data.upper(), addr)


async def main() -> None:
    server, _ = await asyncio.get_running_loop().create_datagram_endpoint(Upper, local_addr=("127.0.0.1", 0))
    port = server.get_extra_info("sockname")[1]
    async with Connection(lambda: DatagramLink(port), name="upper") as conn:
        print(await conn.call("shout", CallOptions(timeout=10), "ahoy"))
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
