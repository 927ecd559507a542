"""What a real plugin prints reaches the application's own listeners, and the log at its own level."""

from __future__ import annotations

import logging

import pytest

from fsm_conn import Connection, Plugin

from .conftest import PLUGINS, PYTHON, eventually

pytestmark = pytest.mark.usefixtures("no_leaks")


async def test_both_streams_by_both_ways(caplog: pytest.LogCaptureFixture) -> None:
    """By the pipes, and by go-plugin's stdio service: each stream to its listener, and each line at its level."""
    caplog.set_level(logging.INFO, "fsm_conn.plugin")
    out, err = bytearray(), bytearray()
    plugin = Plugin([PYTHON, str(PLUGINS / "loud.py")], stdout=out.extend, stderr=err.extend)
    async with Connection(plugin):
        await eventually(lambda: len(caplog.records) >= 4)
    assert sorted(bytes(out).splitlines()) == [b"printed out", b"streamed out"]  # not the handshake line
    assert b'"@message": "printed err"' in err
    assert b"[ERROR] streamed err" in err
    said = {(record.levelname, record.plugin_stream, record.message) for record in caplog.records}  # type: ignore[attr-defined]
    assert said == {
        ("INFO", "stdout", "printed out"),
        ("INFO", "stdout", "streamed out"),
        ("WARNING", "stderr", "loud: printed err: n=1"),
        ("ERROR", "stderr", "2024-01-01T00:00:00.000Z [ERROR] streamed err"),
    }


async def test_a_plugin_in_go(binary: str, caplog: pytest.LogCaptureFixture) -> None:
    """Hclog's own JSON, from a real one."""
    caplog.set_level(logging.DEBUG, "fsm_conn.plugin")
    async with Connection(Plugin([binary, "-chatty"], mtls=False)):
        await eventually(lambda: any("counting" in record.message for record in caplog.records))
    (record,) = (record for record in caplog.records if "counting" in record.message)
    assert record.levelno == logging.DEBUG
    assert record.plugin_module == "plugin.store"  # type: ignore[attr-defined]
    assert record.plugin_fields == {"from": 1, "to": "ten"}  # type: ignore[attr-defined]
