"""Which event loop a test runs in: virtual time everywhere but where sockets and processes are real."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from fsm_conn.testing import VirtualLoop

# How long an example takes is the machine's affair, and no property of what is tested.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# What a shell runs in the background ignores Ctrl-C, and with nohup the end of the terminal; and so would all that is
# started here, and then sent these signals.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, usual)

HERE = Path(__file__).parent
REAL = (HERE / "real", HERE / "links", HERE / "blocking")
ONCE = tuple(
    HERE / name
    for name in (
        *("checks", "cli", "diagrams", "inspector", "pool/test_mutants.py"),
        *("real/test_documents.py", "real/test_go_real.py", "real/test_new.py"),
        *("real/test_inspector_browser.py", "real/test_inspector_real.py"),
        *("real/test_services.py", "real/test_greeter.py", "real/test_site.py"),
        *("cluster", "real/test_cluster_real.py", "real/test_dask_real.py", "real/test_serve.py"),
        *("real/test_peers.py", "real/test_peers_real.py", "real/test_tight_loops.py"),
        "real/test_orderly_plugins.py",
        *("test_benchmarks.py", "test_layers.py", "test_security_document.py", "testing"),
    )
)
"""What one interpreter shows for all: pictures, documents, searches for seeded faults, and peers in other languages."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts real processes (`pytest -m "not real"`), and what need not run on every interpreter."""
    for item in items:
        if HERE / "real" in item.path.parents:
            item.add_marker(pytest.mark.real)
        if any(path == item.path or path in item.path.parents for path in ONCE):
            item.add_marker(pytest.mark.once)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    """One factory a test, so that ids stay as they are."""
    real = any(room in item.path.parents for room in REAL)
    return {"real": asyncio.new_event_loop} if real else {"virtual": VirtualLoop}
