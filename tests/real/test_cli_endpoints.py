"""The command on servers that somebody else runs, and on plugins that crash."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import warm
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from screens import COMMAND, clean_environment

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc

Run = Callable[..., subprocess.CompletedProcess[str]]
PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """`fsm-conn`, without a terminal."""
    with warm.started(clean_environment(), measured=True) as process:
        yield partial(process.run, *COMMAND[1:])


class Calculator(calculator_pb2_grpc.CalculatorServicer):  # type: ignore[misc]
    """Adds, and remembers with which metadata it was asked to."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []

    def Add(self, request: Any, context: Any) -> Any:
        self.metadata.append(dict(context.invocation_metadata()))
        return calculator_pb2.Result(result=request.a + request.b)


@contextmanager
def server(credentials: Any = None) -> Iterator[tuple[str, Calculator]]:
    """One with reflection and health, at an address."""
    served, calculator, healthy = grpc.server(ThreadPoolExecutor(4)), Calculator(), health.HealthServicer()
    calculator_pb2_grpc.add_CalculatorServicer_to_server(calculator, served)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(healthy, served)
    healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(("calculator.Calculator", reflection.SERVICE_NAME), served)
    if credentials is None:
        port = served.add_insecure_port("127.0.0.1:0")
    else:
        port = served.add_secure_port("127.0.0.1:0", credentials)
    served.start()
    try:
        yield f"127.0.0.1:{port}", calculator
    finally:
        served.stop(0).wait()


def test_a_server_at_an_address(run: Run) -> None:
    """Is called, listed and described as a plugin is; metadata go with each call."""
    with server() as (address, calculator):
        called = run("call", "Calculator.Add", "a=5", "b=3", "-H", "authorization: Bearer x", "--", address)
        assert (called.returncode, called.stderr) == (0, "")
        assert json.loads(called.stdout) == {"result": 8}
        assert calculator.metadata[0]["authorization"] == "Bearer x"
        listed = run("call", "--list", "--", address)
        assert listed.stdout.startswith("calculator.Calculator\n  Add(")
        assert "rpc Add(" in run("call", "--describe", "calculator.Calculator", "--", address).stdout
    refused = run("call", "--list", "--start-timeout", "2", "--", address)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"fsm-conn call: cannot reach {address}: ")


def certificates() -> tuple[bytes, bytes]:
    """A certificate for localhost, which is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


def test_a_server_with_tls(run: Run, tmp_path: Path) -> None:
    """By its roots and the name that it goes by, with a certificate of the client's; not without."""
    (our_cert, our_key), (their_cert, their_key) = certificates(), certificates()
    files = []
    for name, text in (("cacert", their_cert), ("cert", our_cert), ("key", our_key)):
        (tmp_path / name).write_bytes(text)
        files += [f"--{name}", str(tmp_path / name)]
    credentials = grpc.ssl_server_credentials([(their_key, their_cert)], our_cert, require_client_auth=True)
    with server(credentials) as (address, _):
        port = address.rpartition(":")[2]
        called = run("call", "Calculator.Add", "a=5", "b=3", *files, "--", f"localhost:{port}")
        assert (called.returncode, called.stderr) == (0, "")
        for options in ((), ("--tls",), files[:2]):
            assert run("call", "--list", "--start-timeout", "3", *options, "--", f"localhost:{port}").returncode == 1


def test_watching_a_server() -> None:
    """Its health, its loss, and that it is given up."""
    with server() as (address, _):
        watching = subprocess.Popen(
            [*COMMAND, "watch", "--json", "--interval", "0.05", "--attempts", "1", "--", address],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(),
        )  # fmt: skip
        assert watching.stdout is not None
        lines = (json.loads(line) for line in watching.stdout)
        told = next(line for line in lines if line["event"] == "health" and line["health"] == "serving")
        assert told["connection"] == address
        assert told["latency_ms"] > 0
    assert any(line["event"] == "transition" and line["source"] == "connected" for line in lines)
    assert watching.communicate(timeout=200)[1].startswith("fsm-conn watch: given up ")
    assert watching.returncode == 1


CRASHING = """
import sys, time
for number in range(8): print(f"line {number} \\x1b[2J", file=sys.stderr)
sys.exit("ValueError: no database")
"""


def test_watch_shows_why_a_plugin_crashes(run: Run, tmp_path: Path) -> None:
    """Its last line in the reason, those before it below the transition, without -v; and in the lines of JSON."""
    plugin = tmp_path / "crashing.py"
    plugin.write_text(CRASHING)
    watched = run("watch", "--attempts", "2", "--", sys.executable, str(plugin))
    assert watched.returncode == 1
    shown = [line.strip() for line in watched.stdout.splitlines()]
    assert watched.stdout.count("before its handshake: ValueError: no database") == 2
    assert shown.count("| line 7") == 2
    assert "\x1b" not in watched.stdout
    told = [
        json.loads(line)
        for line in run("watch", "--json", "--attempts", "1", "--", sys.executable, str(plugin)).stdout.splitlines()
    ]
    (line,) = [line for line in told if "last_words" in line]
    assert line["last_words"][-1] == "line 7"
    assert line["reason"]["message"].endswith("before its handshake: ValueError: no database")


def test_the_log_of_a_service(tmp_path: Path) -> None:
    """At INFO, of a plugin that was killed: three lines of ours, and none of grpc, pyvider or of transitions."""
    host = tmp_path / "host.py"
    host.write_text(
        "import asyncio, logging, os, signal, sys\n"
        "from fsm_conn import Connection\n"
        "logging.basicConfig(level=logging.INFO, format='%(levelname)s %(name)s %(message)s')\n"
        "async def main():\n"
        "    async with Connection([sys.executable, '-m', 'fsm_conn.demo.calculator'], name='calc', start_timeout=200) as conn:\n"
        "        os.kill(conn.pid, signal.SIGKILL)\n"
        "        await conn.wait_for_state('reconnecting')\n"
        "        await conn.wait_for_state('connected')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, str(host)], capture_output=True, text=True, timeout=120, check=False, env=clean_environment()
    )
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stderr.splitlines() if not line.startswith("INFO fsm_conn.plugin ")]
    words = [line.split()[:4] for line in ours]
    assert words == [
        ["INFO", "fsm_conn.status", "calc:", "connected"],
        ["WARNING", "fsm_conn.status", "calc:", "lost"],
        ["INFO", "fsm_conn.status", "calc:", "reconnected"],
    ], done.stderr
    assert "SIGKILL" in ours[1]
