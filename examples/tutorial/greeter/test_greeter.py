"""The connection under test: thousands of lives in virtual time, one loss by hand, and one real plugin."""

import pytest
from configured import Greeters
from host import GREETER

from fsm_conn import ConnectionPool
from fsm_conn.checks import check
from fsm_conn.testing import SimulatedPeer, VirtualTime, lifecycle_test


class FrenchGreeters(Greeters):
    """As it is used. The harness makes a connection from a target alone."""

    def __init__(self, target: object, **options: object) -> None:
        super().__init__(target, language="French", **options)


TestLives = lifecycle_test(FrenchGreeters)


def test_the_table_is_sound() -> None:
    assert not check(Greeters)


@pytest.mark.asyncio
async def test_a_lost_plugin_is_configured_again(virtual_time: VirtualTime, simulated_peer: SimulatedPeer) -> None:
    async with FrenchGreeters(simulated_peer) as conn:
        simulated_peer.lose()
        await virtual_time.pass_by(60)  # seconds, which pass at once
        assert conn.connected
        assert simulated_peer.asked["call"] == 2  # Configure, once for each plugin


@pytest.mark.asyncio
async def test_a_pool_of_real_plugins() -> None:
    async with ConnectionPool(GREETER, pool_size=2, connection_class=FrenchGreeters) as pool:
        assert (await pool.call("greeter.Greet", name="Ada")).text == "Bonjour, Ada!"
