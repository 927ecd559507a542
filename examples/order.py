"""An order: paid by data that comes with a trigger, cancelled by a time limit, stored and restored.

python examples/order.py
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import attrs

from fsm_conn import Fires, Snapshot, State, StateMachine, Transition


class Order(StateMachine):
    """Shipped when all of it is paid; cancelled when that takes too long."""

    states = (
        State("placed", initial=True, timeout="payment_time", on_timeout="lapse"),
        State("packing", on_error="short_of_stock", entry="thank"),
        State("shipped", final=True),
        State("cancelled", final=True, entry="refund"),
    )
    transitions = (
        Transition("pay", "placed", "packing", guards="is_enough", effects="take"),
        Transition("pay", "placed", None, effects="take"),
        Transition("lapse", "placed", "cancelled"),
        Transition("cancel", ("placed", "packing"), "cancelled"),
        Transition("packed", "packing", "shipped", effects="count_shipped"),
        Transition("short_of_stock", "packing", "cancelled"),
        Transition("fault", "packing", "cancelled"),
    )

    def __init__(self, price: float, paid: float = 0.0, *, payment_time: float = 60.0) -> None:
        self.price = price
        self.paid = paid
        self.payment_time = payment_time
        self.refunded = 0.0
        self.shipped = 0

    def is_enough(self, amount: float) -> bool:
        """Whether nothing is owed with this."""
        return self.paid + amount >= self.price

    def take(self, amount: float) -> None:
        """More of it is paid."""
        self.paid += amount

    def thank(self) -> None:
        """All of it is paid."""
        print(f"thank you for {self.paid:g}")

    def refund(self, reason: BaseException | None) -> None:
        """Give back what was paid."""
        self.refunded, self.paid = self.paid, 0.0
        print(f"cancelled{f': {reason}' if reason else ''}; {self.refunded:g} are given back")

    def count_shipped(self) -> None:
        """It is on its way."""
        self.shipped += 1

    async def while_packing(self) -> Annotated[str, Fires("packed")]:
        """Pack it."""
        await asyncio.sleep(0.01)
        return "packed"


async def main() -> None:
    """Pay in two parts, with a restart of the shop in between; and let another order lapse."""
    order = Order(10)
    async with order:
        order.fire("pay", amount=4)
        stored = json.dumps({"machine": attrs.asdict(order.snapshot()), "paid": order.paid})

    kept = json.loads(stored)
    async with Order.restored(Snapshot(**kept["machine"]), 10, kept["paid"]) as again:
        again.fire("pay", amount=6)
        print(await again.wait_for_state("shipped", "cancelled"))

    async with Order(10, payment_time=0.01) as late:
        print(await late.wait_for_state("shipped", "cancelled"))


if __name__ == "__main__":
    asyncio.run(main())
