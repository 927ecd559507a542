"""A plain script: no event loop, no threads.

pip install 'fsm_conn[blocking]'
python script.py
"""

import sys

from fsm_conn import CallOptions, Plugin
from fsm_conn.blocking import Connection

CALCULATOR = Plugin([sys.executable, "-m", "fsm_conn.demo.calculator"])

with Connection(CALCULATOR) as conn:
    for line in sys.stdin:
        a, b = map(float, line.split())
        print(conn.call("calculator.Multiply", CallOptions(idempotent=True, timeout=30), a=a, b=b).result)
