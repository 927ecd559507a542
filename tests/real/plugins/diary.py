"""The calculator, but it writes the first operand of each addition down as it executes it, to the file $DIARY."""

import asyncio
import os

import lean

add = lean.Calculator.Add
diary = os.open(os.environ["DIARY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


async def add_and_write(self, request, context):
    # A kill may come before the execution as well as between that and the answer.
    await asyncio.sleep(0.001)
    os.write(diary, b"%d\n" % request.a)
    await asyncio.sleep(0.001)
    return await add(self, request, context)


lean.Calculator.Add = add_and_write
lean.main()
