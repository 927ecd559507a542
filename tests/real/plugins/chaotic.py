"""The calculator with a ledger: it writes the first operand of each addition to the file $LEDGER as it executes it.

SIGUSR1: print eight megabytes on stderr. SIGUSR2: answer slowly for a second.
"""

import asyncio
import os
import signal
import threading
import time

from fsm_conn.demo import calculator

add = calculator.Calculator.Add
ledger = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
slow_until = 0.0


def flood():
    for _ in range(128):
        os.write(2, b"x" * 65535 + b"\n")


def be_slow(*_):
    global slow_until
    slow_until = time.monotonic() + 1


async def add_and_write(self, request, context):
    # A kill may come before the execution as well as between that and the answer.
    await asyncio.sleep(0.3 if time.monotonic() < slow_until else 0.001)
    os.write(ledger, b"%d\n" % request.a)
    await asyncio.sleep(0.3 if time.monotonic() < slow_until else 0.001)
    return await add(self, request, context)


signal.signal(signal.SIGUSR1, lambda *_: threading.Thread(target=flood, daemon=True).start())
signal.signal(signal.SIGUSR2, be_slow)
calculator.Calculator.Add = add_and_write
calculator.main()
