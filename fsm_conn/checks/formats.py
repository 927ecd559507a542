"""Findings written down: for people, for programs, and as SARIF 2.1.0 for tools that show findings beside the code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from fsm_conn._util.lookup import working_directory
from fsm_conn.checks.rules import RULES, Finding
from fsm_conn.version import __version__

__all__ = ["to_json", "to_sarif", "to_text"]

FORMAT, VERSION = "fsm_conn findings", 1
_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def to_text(findings: Iterable[Finding]) -> str:
    """Two lines for each: what was found and where, and what to do about it. Empty when there are none."""
    return "\n".join(
        f"{_where(each)}{each.severity} {each.code} {each.machine}: {each.place}: {each.message}\n    {each.remedy}"
        for each in findings
    )


def to_json(findings: Iterable[Finding]) -> str:
    """All that a finding says, as JSON that keeps its form within a version."""
    whole = {"format": FORMAT, "version": VERSION, "findings": [attrs.asdict(each) for each in findings]}
    return json.dumps(whole, indent=2)


def to_sarif(findings: Iterable[Finding]) -> str:
    """A log in the Static Analysis Results Interchange Format, version 2.1.0 (OASIS)."""
    codes = list(RULES)
    driver = {"name": "fsm_conn", "version": __version__, "rules": [_rule(code) for code in codes]}
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(each, codes.index(each.code)) for each in findings],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(code: str) -> dict[str, Any]:
    rule = RULES[code]
    return {
        "id": rule.code,
        "name": rule.name.title().replace("-", ""),
        "shortDescription": {"text": rule.meaning},
        "help": {"text": rule.remedy},
        "defaultConfiguration": {"level": str(rule.severity)},
    }


def _result(finding: Finding, index: int) -> dict[str, Any]:
    location: dict[str, Any] = {
        "logicalLocations": [{"name": finding.place, "fullyQualifiedName": f"{finding.machine}: {finding.place}"}]
    }
    if finding.file is not None:
        location["physicalLocation"] = {"artifactLocation": {"uri": _uri(finding.file)}}
        if finding.line is not None:
            location["physicalLocation"]["region"] = {"startLine": finding.line}
    return {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": str(finding.severity),
        "message": {"text": f"{finding.machine}: {finding.message}. {finding.remedy}"},
        "locations": [location],
    }


def _where(finding: Finding) -> str:
    if finding.file is None:
        return ""
    return f"{_relative(finding.file)}:{finding.line}: " if finding.line else f"{_relative(finding.file)}: "


def _relative(file: str) -> Path:
    """From here, for what is below: so that it reads the same on every machine."""
    path, here = Path(file), working_directory()
    return path.relative_to(here) if here and path.is_relative_to(here) else path


def _uri(file: str) -> str:
    path = _relative(file)
    return path.as_uri() if path.is_absolute() else quote(os.fsencode(path.as_posix()))
