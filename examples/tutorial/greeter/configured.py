"""A connection with one more state: it is `connected` only when the plugin has been told its language."""

import asyncio
from typing import Annotated, Any

import grpc
from host import GREETER

from fsm_conn import Connection, Fires, LinkError, LinkState, insert_state


class UnknownLanguageError(LinkError):
    """The plugin does not know the language. `permanent`: it is not asked again."""

    permanent = True


class Greeters(Connection):
    """Configures each plugin, the first one and each that takes its place."""

    states, transitions = insert_state(
        Connection,
        LinkState("configuring", on_error="open_failed", timeout=10, on_timeout="open_failed"),
        trigger="opened",
        before="connected",
        then="configured",
        like="connecting",
    )

    def __init__(self, target: Any, *, language: str, **options: Any) -> None:
        super().__init__(target, **options)
        self.language = language

    async def while_configuring(self) -> Annotated[str, Fires("configured")]:
        try:
            await self.call("greeter.Configure", language=self.language)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise UnknownLanguageError(f"{self.name}: {error.details()}") from error
            raise LinkError(f"{self.name}: could not be configured: {error.details()}") from error
        return "configured"


async def main() -> None:
    async with Greeters(GREETER, language="French", name="greeter") as conn:
        print(*(record.dest for record in conn.history))
        print((await conn.greeter.Greet(name="Ada")).text)
        await conn.reconnect()  # a new process, which knows nothing
        print((await conn.greeter.Greet(name="Ada")).text)


if __name__ == "__main__":
    asyncio.run(main())
