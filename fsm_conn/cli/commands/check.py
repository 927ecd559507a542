"""`fsm-conn check`: runs the static checks of `fsm_conn.checks`, with output like a linter's."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import attrs
import click
from rich.text import Text

from fsm_conn._util.text import plain_json, plain_line
from fsm_conn.checks import Finding, Severity, check, to_json, to_sarif, to_text
from fsm_conn.cli.machines import Machine
from fsm_conn.cli.options import reasons
from fsm_conn.cli.terminal import output

__all__ = ["command"]

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "magenta"}
_WRITERS = {"json": to_json, "sarif": to_sarif}


@click.command(
    epilog="""\b
Examples:
  fsm-conn check app.clients:Authenticated app.clients:Pool
  fsm-conn check --format sarif app/clients.py:Authenticated > findings.sarif"""
)
@click.argument("machines", type=Machine(), nargs=-1, required=True, metavar="MODULE:CLASS...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", *_WRITERS]),
    default="text",
    show_default=True,
    help="The output format; code hosts show SARIF beside the code.",
)
@reasons("--accept", "CODE", "Accept a finding, for a reason; at one place only by 'CODE PLACE=REASON'.")
@click.option("--strict", is_flag=True, help="Exit with status 1 for warnings, too.")
def command(machines: tuple[Any, ...], form: str, accept: dict[str, str], strict: bool) -> None:
    """Find the mistakes in state machines without running them: states that nothing reaches or leaves, rows that are
    never taken, triggers that nobody handles, guards and effects that do not exist.

    MODULE:CLASS may also be path/to/file.py:Class. Ends with status 1 when there are errors.
    """
    findings = [finding for machine in machines for finding in check(machine, accept)]
    if form in _WRITERS:
        sys.stdout.write(plain_json(_WRITERS[form](findings)) + "\n")
    else:
        _show(findings, len(machines))
    counts = Counter(finding.severity for finding in findings)
    if counts[Severity.ERROR] or (strict and counts[Severity.WARNING]):
        raise click.ClickException(", ".join(_many(counts[each], each) for each in Severity if counts[each]))


def _show(findings: list[Finding], machines: int) -> None:
    console = output()
    for finding in findings:
        head, _, remedy = to_text([_in_lines(finding)]).partition("\n")
        text = Text(head)
        text.highlight_words([f"{finding.severity} {finding.code}"], _STYLES[finding.severity])
        console.say(text)
        console.say(remedy, "dim")
    if not findings:
        console.say(Text(f"nothing found in {_many(machines, 'machine')}", "bold green"))


def _in_lines(finding: Finding) -> Finding:
    """The finding with line ends and control characters escaped: names may be any text."""
    told: dict[str, Any] = {
        name: plain_line(getattr(finding, name)) for name in ("machine", "place", "message", "remedy")
    }
    return attrs.evolve(finding, file=finding.file and plain_line(finding.file), **told)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
