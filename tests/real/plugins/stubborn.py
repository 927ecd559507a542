"""The calculator, but it does not hear SIGTERM."""

import asyncio
import os
import signal

from fsm_conn.demo import calculator

asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = lambda *_: None
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.environ["STUBBORN"] = "1"
calculator.main()
