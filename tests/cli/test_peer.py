"""What stands after `--`: a command or an address, and the options that go with each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fsm_conn import Connection, Endpoint, LinkLostError, Plugin, cli
from fsm_conn.cli.commands import call
from fsm_conn.cli.drawing import LAST_WORDS, last_words
from fsm_conn.links.errors import PluginExitedError
from fsm_conn.links.target import Tls

seen: list[Any] = []


class Seeing(Connection):
    """Remembers its target, and fails."""

    def __init__(self, target: Any, **options: Any) -> None:
        seen.append(target)
        super().__init__(lambda: None, name="seen")

    async def connect(self) -> None:
        raise SystemExit


@pytest.fixture(autouse=True)
def seeing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "Connection", Seeing)
    seen.clear()


def target(*arguments: str) -> Any:
    cli.main(["call", "--list", *arguments])
    return seen.pop()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    assert cli.main(["call", "--list", *arguments]) == status
    assert seen == []
    return capsys.readouterr().err


def test_a_plugin() -> None:
    """With its environment, its versions and its TLS."""
    assert target("--", "./plugin", "-v") == Plugin(["./plugin", "-v"])
    assert target("--env", "A=b=c", "--env", "D=", "--version", "5", "--version", "6", "--mtls", "--", "p") == Plugin(
        ["p"], env={"A": "b=c", "D": ""}, versions=(5, 6), mtls=True
    )


@pytest.mark.parametrize("address", ["127.0.0.1:50051", "etcd:2379", "unix:/run/x.sock", "[::1]:80", "dns:///x:1"])
def test_an_address(address: str) -> None:
    """One word that is one; plain text, unless something of TLS is given."""
    assert target("--", address) == Endpoint(address)
    assert target("--tls", "--authority", "x", "--", address) == Endpoint(address, credentials=Tls(), authority="x")


def test_metadata() -> None:
    """As grpcurl's users write it, too."""
    given = ("--metadata", "Authorization=Bearer a=b", "-H", "X-One: 1", "-H", "x-url=http://a", "-H", "n-bin: AQI")
    expected = {"authorization": "Bearer a=b", "x-one": "1", "x-url": "http://a", "n-bin": b"\x01\x02"}
    assert target(*given, "--", "a:1") == Endpoint("a:1", metadata=expected)
    assert target(*given, "--", "p") == Plugin(["p"], metadata=expected)


def test_certificates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From files; what cannot be read, or lacks its other half, is said."""
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text(f"-- {name}")
    files = [
        word for name in ("ca", "cert", "key") for word in (f"--{name.replace('ca', 'cacert')}", str(tmp_path / name))
    ]
    assert target(*files, "--", "a:1").credentials == Tls(roots=b"-- ca", certificate=b"-- cert", key=b"-- key")
    assert "give both certificate= and key=" in refused(capsys, *files[:4], "--", "a:1")
    assert "No such file" in refused(capsys, "--cacert", str(tmp_path / "none"), "--", "a:1", status=1)
    assert "more than" in refused(capsys, "--cacert", "/dev/zero", "--", "a:1", status=1)


def test_a_file_with_the_name_of_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is a program."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:1").touch()
    assert target("--", "a:1") == Plugin(["a:1"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--env", "A=b", "--mtls", "--", "a:1"), "--env, --mtls: for a plugin that is started, not for an address."),
        (("--cacert", "a", "--tls", "--", "p"), "--tls, --cacert: for an address, not for a plugin"),
        (("--metadata", "a", "--", "a:1"), "--metadata takes NAME=VALUE."),
        (("--env", "=b", "--", "p"), "--env takes NAME=VALUE."),
        (("--metadata", "\u00e4=b", "--", "a:1"), "metadata"),
        (("--metadata", "a-bin=?", "--", "a:1"), "the values of names that end in '-bin' must be in base64"),
        (("--", "https://user:s3cret@host:1/"), "gRPC's addresses have no https://"),
        ((), "Give the plugin's command after '--', such as '-- python plugin.py', or an address"),
    ],
)
def test_what_does_not_go_together(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Is told, with what it is for; and no password of a URL is."""
    err = refused(capsys, *arguments)
    assert said in err
    assert "s3cret" not in err


def test_last_words() -> None:
    """Of what a plugin printed before it was lost, the last lines, harmless."""
    evidence = "\n".join(f"line {number}\x1b[2J" for number in range(20))
    assert last_words(PluginExitedError("gone", evidence=evidence)) == [
        f"line {number}\\x1b[2J" for number in range(20 - LAST_WORDS, 20)
    ]
    assert last_words(LinkLostError("gone")) == last_words(None) == last_words(ValueError("x")) == []
