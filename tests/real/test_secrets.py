"""Nothing secret is told: secrets are put wherever one can be put, everything is logged and shown, and then looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = Path(__file__).parent / "hosts" / "secretive.py"


@pytest.mark.timeout(600)
def test_nothing_secret_is_told(tmp_path: Path) -> None:
    """Neither by errors, `repr`, log records of any logger at DEBUG, traces, spans nor metrics.

    Values of `env=`, the cookie, keys, certificates, metadata and fields of requests, in a life of calls, losses and
    failures, with plugins that repeat what they were given.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PROVIDE_", "GRPC_"))}
    env |= {"PROVIDE_LOG_LEVEL": "TRACE", "GRPC_VERBOSITY": "DEBUG", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(HOST), str(tmp_path)],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
        check=False,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    told = done.stdout + (tmp_path / "trace").read_text()
    secrets = json.loads((tmp_path / "secrets").read_text())
    assert len(secrets) > 10, "the keys and certificates that were made are among them"
    found = {secret: [line for line in told.splitlines() if secret in line][:3] for secret in secrets}
    assert {secret: lines for secret, lines in found.items() if lines} == {}
    for logger in ("fsm_conn.connection", "fsm_conn.call", "fsm_conn.plugin", "fsm_conn.pyvider", "asyncio"):
        assert f"\n{logger} " in told, f"nothing was logged by {logger}: this test would prove nothing"
    for kind in (
        "SHOWN",
        "TELEMETRY",
        "RequestError",
        "PluginExitedError",
        "BadCookieError",
        "cannot be forked, and is started as without prefork: what it imports cannot be imported beforehand (Run",
        "INTERNAL: API_TOKEN=[redacted]",
    ):
        assert kind in told
