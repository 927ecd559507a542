"""A host: starts the plugin, calls it, and ends it."""

import asyncio
import sys
from pathlib import Path

from fsm_conn import Connection, Plugin

GREETER = Plugin(
    [sys.executable, str(Path(__file__).with_name("greeter_plugin.py"))],
    env={"PLUGIN_MAGIC_COOKIE": "greeter-5d1c", "GREETER_LANGUAGE": "English"},
)


async def main() -> None:
    async with Connection(GREETER, name="greeter") as conn:
        reply = await conn.greeter.Greet(name="Ada")
        print(reply.text)


if __name__ == "__main__":
    asyncio.run(main())
