"""A link to a server of one's own, which answers each line with a line: a `DriverLink`, and what it is used by.

python examples/recipes/line_protocol.py
"""

import asyncio

from fsm_conn import DriverLink, DriverPool


class Line:
    """What a driver's library would give you: one socket, one question at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, question: str) -> str:
        self.writer.write(question.encode() + b"\n")
        answer = await self.reader.readline()
        if not answer:
            raise ConnectionError("the server closed the connection")
        return answer.decode().rstrip()

    def close(self) -> None:
        self.writer.close()


class LineLink(DriverLink[Line]):
    """Opened again when it is lost."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    async def connect(self) -> Line:
        return Line(*await asyncio.open_connection("127.0.0.1", self.port))

    def is_lost(self, line: Line) -> bool:
        return line.reader.at_eof() or line.writer.is_closing()

    async def ping(self, line: Line) -> None:
        await line.ask("ping")


async def main() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while question := await reader.readline():
            writer.write(question.upper())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with DriverPool(lambda: LineLink(port), 2) as pool, pool.acquire(timeout=30) as line:
        print(await line.ask("hello"))
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
