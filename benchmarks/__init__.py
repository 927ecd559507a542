"""Measurements of fsm_conn on real plugin processes, side by side with what they are compared to.

    python -m benchmarks [--only NAME ...] [--quick] [--json FILE]

Every module named in `SUITE` is one benchmark: its docstring says what it compares and on what work, and its function
`rows(quick, progress)` does that and returns the rows of the table.
"""

SUITE: tuple[str, ...] = (
    "calls",
    "broker",
    "throughput",
    "recovery",
    "prefork",
    "served",
    "stillborn",
    "cancellation",
    "loop_end",
    "many",
    "memory",
    "dispatch",
    "machines",
    "creation",
    "tracking",
    "storm",
    "flapping",
    "harness",
    "pool",
    "diagrams",
    "inspector",
    "slots",
    "imports",
)
"""The benchmarks by name, in the order in which they run."""
