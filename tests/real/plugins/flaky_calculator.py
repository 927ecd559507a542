"""The calculator, but every fourth addition ends it."""

import os

from fsm_conn.demo import calculator

add, calls = calculator.Calculator.Add, 0


async def add_or_die(self, request, context):
    global calls
    calls += 1
    if calls == 4:
        os._exit(1)
    return await add(self, request, context)


calculator.Calculator.Add = add_or_die
calculator.main()
