"""Several plugins, shared by many callers."""

import asyncio

from host import GREETER

from fsm_conn import CallOptions, ConnectionPool, PoolPolicy

SAFE_TO_REPEAT = CallOptions(idempotent=True, timeout=30)


async def main() -> None:
    async with ConnectionPool(GREETER, pool_size=2, policy=PoolPolicy(standby=1), name="greeters") as pool:
        names = [f"visitor {number}" for number in range(100)]
        replies = await asyncio.gather(*(pool.call("greeter.Greet", SAFE_TO_REPEAT, name=name) for name in names))
        print(len(replies), "greetings, the last one:", replies[-1].text)

        async with pool.acquire(timeout=30) as client:  # a lease: one plugin, for this block alone
            print((await client.greeter.Greet(name="Ada")).text)


if __name__ == "__main__":
    asyncio.run(main())
