"""A little of HTTP/2, to see what a server allows its clients."""

from __future__ import annotations

import asyncio
import struct

SETTINGS, MAX_CONCURRENT_STREAMS = 0x4, 0x3


async def most_streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int | None:
    """How many calls a server takes at one time on one connection; None: any number."""
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    try:
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == SETTINGS:
                return dict(struct.iter_unpack(">HI", payload)).get(MAX_CONCURRENT_STREAMS)
    finally:
        writer.close()
        await writer.wait_closed()
