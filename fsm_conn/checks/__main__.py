"""`python -m fsm_conn.checks` prints the table of codes for documentation."""

from fsm_conn.checks.rules import markdown

print(markdown())  # noqa: T201
