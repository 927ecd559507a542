"""The calculator, but it talks."""

import sys
import threading

from fsm_conn.demo import calculator


def talk():
    print("to stdout", flush=True)
    print("to stderr", file=sys.stderr, flush=True)


threading.Timer(1.0, talk).start()
calculator.main()
