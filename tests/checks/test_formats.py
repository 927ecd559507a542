"""Findings written down say what was found, in every form."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs
import pytest

from fsm_conn.checks import RULES, Finding, Severity, check, to_json, to_sarif, to_text
from fsm_conn.version import __version__

from .broken import PAIRS

HERE = Path(__file__)


@pytest.fixture(scope="module")
def findings() -> tuple[Finding, ...]:
    """Of every rule."""
    return tuple(finding for pair in PAIRS.values() for finding in check(pair.broken()))


def one(**changes: Any) -> Finding:
    finding = Finding("FSM104", Severity.WARNING, "Shop", "leave in open", "only order decides", "Decide.")
    return attrs.evolve(finding, **changes)


def test_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """What and where in a line, and the remedy in another; files from here."""
    told = "warning FSM104 Shop: leave in open: only order decides\n    Decide."
    assert to_text([]) == ""
    assert to_text([one()]) == told
    assert to_text([one(file=str(HERE), line=7)]).endswith(f"{HERE.name}:7: {told}")
    monkeypatch.chdir(HERE.parent)
    assert to_text([one(file=str(HERE), line=7), one()]) == f"{HERE.name}:7: {told}\n{told}"
    assert to_text([one(file=str(HERE))]) == f"{HERE.name}: {told}"
    elsewhere = Path("/elsewhere/shop.py")
    assert to_text([one(file=str(elsewhere), line=1)]) == f"{elsewhere}:1: {told}"


def test_for_programs(findings: tuple[Finding, ...]) -> None:
    """All that a finding is, and it can be made again of it."""
    whole = json.loads(to_json(findings))
    assert (whole["format"], whole["version"]) == ("fsm_conn findings", 1)
    assert tuple(Finding(**{**each, "severity": Severity(each["severity"])}) for each in whole["findings"]) == findings
    assert json.loads(to_json([]))["findings"] == []


def test_as_sarif(findings: tuple[Finding, ...]) -> None:
    """One run of one tool; each result has its rule, its level, its words and its place."""
    log = json.loads(to_sarif(findings))
    assert (log["version"], log["$schema"].rpartition("/")[2]) == ("2.1.0", "sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["version"]) == ("fsm_conn", __version__)
    assert [rule["id"] for rule in driver["rules"]] == list(RULES)
    for rule in driver["rules"]:
        known = RULES[rule["id"]]
        assert rule["shortDescription"]["text"] == known.meaning
        assert rule["help"]["text"] == known.remedy
        assert rule["defaultConfiguration"]["level"] == known.severity in ("error", "warning", "note")
        assert rule["name"].isalnum()
        assert "helpUri" not in rule
    assert len(run["results"]) == len(findings)
    for result, finding in zip(run["results"], findings, strict=True):
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == finding.code
        assert result["level"] == finding.severity
        assert finding.message in result["message"]["text"]
        assert finding.remedy in result["message"]["text"]
        (location,) = result["locations"]
        assert location["logicalLocations"] == [
            {"name": finding.place, "fullyQualifiedName": f"{finding.machine}: {finding.place}"}
        ]
        assert ("physicalLocation" in location) == (finding.file is not None)


def test_files_in_sarif_are_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to where it was written, below that; else absolute, and quoted."""

    def place(finding: Finding) -> Any:
        return json.loads(to_sarif([finding]))["runs"][0]["results"][0]["locations"][0].get("physicalLocation")

    monkeypatch.chdir(HERE.parents[1])
    assert place(one()) is None
    assert place(one(file=str(HERE))) == {"artifactLocation": {"uri": f"checks/{HERE.name}"}}
    assert place(one(file=str(HERE), line=7))["region"] == {"startLine": 7}
    assert place(one(file="/a b/c.py"))["artifactLocation"] == {"uri": "file:///a%20b/c.py"}
    assert place(one(file=str(Path.cwd() / "a b.py")))["artifactLocation"] == {"uri": "a%20b.py"}
    assert place(one(file=os.fsdecode(os.fsencode(Path.cwd()) + b"/caf\xe9.py")))["artifactLocation"] == {
        "uri": "caf%E9.py"
    }
