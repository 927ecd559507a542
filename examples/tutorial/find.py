"""Walk every short life of the connection, and show the first one that goes wrong.

python examples/tutorial/find.py before
python examples/tutorial/find.py after
"""

import importlib
import sys

from fsm_conn.testing import explore


def main(module: str) -> None:
    connection_class = importlib.import_module(module).PatientLogin
    violation = explore(connection_class, depth=4).violation
    print(violation or "No life of up to 4 steps goes wrong.")


if __name__ == "__main__":
    main(sys.argv[1])
