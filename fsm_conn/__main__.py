"""`python -m fsm_conn` is `fsm-conn`."""

import sys

from fsm_conn.cli import main

sys.exit(main())
