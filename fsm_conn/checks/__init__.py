"""Static checks: find mistakes and probable mistakes in a table without running anything.

    for finding in check(Authenticated):
        print(finding.code, finding.place, finding.message, finding.remedy)

What is certainly wrong with a class of ours was refused when the class was made. The rooms, from the ground up:

- `rules`: every code, with its meaning and remedy. `guards`: what guards can say together. `graph`: where ways lead.
- `reach`, `returns`: what code comes to use, and what it returns.
- `subject`: what is checked. `shape`, `activities`, `links`, `names`: the checks.
- `running`: all of them over one machine. `formats`: what was found, written down.

`python -m fsm_conn.checks` prints the table of codes for documentation.
"""

from fsm_conn.checks.formats import to_json, to_sarif, to_text
from fsm_conn.checks.rules import RULES, Finding, Rule, Severity, markdown
from fsm_conn.checks.running import AcceptanceError, check

__all__ = [
    "RULES",
    "AcceptanceError",
    "Finding",
    "Rule",
    "Severity",
    "check",
    "markdown",
    "to_json",
    "to_sarif",
    "to_text",
]
