"""A pool of Redis connections, by redis-py: what is leased is a client of one connection.

    REDIS=redis://localhost python examples/redis_pool.py

redis-py tells nobody that its connection is gone, so the link looks every half second, and is told by who finds out.
"""

import asyncio
import os

import redis.asyncio

from fsm_conn import DriverLink, DriverPool


class Redis(DriverLink[redis.asyncio.Redis]):
    """One connection to Redis."""

    async def connect(self) -> redis.asyncio.Redis:
        client = redis.asyncio.Redis.from_url(os.environ["REDIS"], single_connection_client=True)
        try:
            return await client.initialize()
        except BaseException:
            await client.aclose()
            raise

    async def ping(self, client: redis.asyncio.Redis) -> None:
        await client.execute_command("PING")

    def is_lost(self, client: redis.asyncio.Redis) -> bool:
        return client.connection is None or not client.connection.is_connected


async def main() -> None:
    """Count, lose the connection, and count on."""
    async with DriverPool(Redis, 2, name="counters") as pool:
        async with pool.acquire() as client:
            await client.set("visits", 41)
            print("visits:", await client.incr("visits"))
        lease = pool.acquire()
        client = await lease
        await client.execute_command("CLIENT", "KILL", "SKIPME", "no", "ID", await client.client_id())
        lease.discard()  # who knows that a connection is of no use says so
        async with pool.acquire(timeout=10) as client:
            print("visits:", await client.incr("visits"))


if __name__ == "__main__":
    asyncio.run(main())
