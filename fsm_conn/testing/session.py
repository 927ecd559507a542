"""Transition coverage of a whole run of pytest: counted, reported, written down and judged.

The pytest plugin loads this when one of its options asks for it. Under pytest-xdist every worker counts, and the
controller, where no test runs, adds up what they hand over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fsm_conn.testing.coverage import TransitionCoverage
from fsm_conn.testing.report import Report

__all__ = ["SessionCoverage"]

_HANDED_OVER = "fsm_conn_transition_coverage"
"""The key under which a worker hands over its report."""


class SessionCoverage:
    """Counts in this process; under pytest-xdist, the controller adds up what the workers have counted."""

    def __init__(self, config: pytest.Config) -> None:
        self._counting = TransitionCoverage()
        self._workers = 0
        self._of_workers: list[Report] = []
        self._problems: list[str] = []
        self._least: float | None = config.getoption("fsm_coverage_fail_under")
        self._file: Path | None = config.getoption("fsm_coverage_json")
        self._only: list[str] | None = config.getoption("fsm_coverage_only")
        self._counting.start()

    def report(self) -> Report:
        """What ran, here and in the workers, of the classes that matter."""
        report = self._counting.report().merge(*self._of_workers)
        return report.only(self._only) if self._only else report.of_interest()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self) -> None:
        """A worker begins: it is to hand over what it counts."""
        self._workers += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has ended: take over what it has counted, unless it died."""
        counted = getattr(node, "workeroutput", {}).get(_HANDED_OVER)
        if counted is not None:
            self._of_workers.append(Report.from_json(counted))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """In a worker: hand over what was counted. Otherwise: write it down, and judge it."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_HANDED_OVER] = self._counting.report().to_json()
            return
        report = self.report()
        self._write(report)
        self._judge(report)
        if self._problems and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _write(self, report: Report) -> None:
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(report.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            self._problems.append(f"the transition coverage could not be written: {error}")

    def _judge(self, report: Report) -> None:
        if self._least is not None and report.percentage < self._least:
            what = f"{report.percentage:.2f} %" if report.counts else "nothing, for no class was counted"
            self._problems.append(f"transition coverage: {self._least:g} % are required, and it is {what}")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what ran, what did not, and what is wrong."""
        terminalreporter.section("transition coverage (fsm_conn)")
        for line in self.report().text().splitlines():
            terminalreporter.write_line(line)
        lost = self._workers - len(self._of_workers)
        if lost > 0:
            missing = f"the counts of {lost} of {self._workers} workers are missing: they died, or were stopped"
            terminalreporter.write_line(missing, yellow=True)
        for problem in self._problems:
            terminalreporter.write_line(problem, red=True, bold=True)

    def pytest_unconfigure(self) -> None:
        """Count no more."""
        self._counting.stop()
