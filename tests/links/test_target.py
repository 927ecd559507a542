"""Targets and options: what each is taken for, and what is said of those that are wrong."""

from __future__ import annotations

import pathlib
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import Peer

from fsm_conn import Connection, Link
from fsm_conn.links.target import resolve_target

REFUSED: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ("python calculator.py", {}, ValueError, "if it is a command, give it as a list: ['python', 'calculator.py']"),
    ("python 'my file.py'", {}, ValueError, "give it as a list: ['python', 'my file.py']"),
    ("python it's", {}, ValueError, "give it as a list"),
    ("calculator", {}, ValueError, "is not an address such as '127.0.0.1:50051' or 'unix:/run/x.sock'"),
    ("localhost:70000", {}, ValueError, "is not an address"),
    ("localhost:0", {}, ValueError, "is not an address"),
    ("", {}, ValueError, "is not an address"),
    ([], {}, ValueError, "the command is empty"),
    ([""], {}, ValueError, "command[0] is empty"),
    (["python", 3], {}, TypeError, "command[1] is 3: every word of a command must be a string or a path"),
    (["a\0b"], {}, ValueError, "command[0] contains a NUL character"),
    (["x", "\ud800"], {}, ValueError, "command[1] contains '\\ud800', which is no character"),
    (["x"], {"env": {"A": "b\ud800"}}, ValueError, "env: 'A' has a value that contains '\\ud800', which is no character"),
    (["x"], {"env": {"\ud800": ""}}, ValueError, "env: '\\ud800' cannot be the name of a variable"),
    (["x"], {"cwd": "a\0"}, ValueError, "cwd='a\\x00' contains a NUL character"),
    (["x"], {"cwd": "\ud800"}, ValueError, "cwd='\\ud800' contains '\\ud800', which is no character"),
    (b"python", {}, TypeError, "bytes is no target"),
    ({"a": 1}, {}, TypeError, "dict is no target"),
    (None, {}, TypeError, "NoneType is no target: give a command as a list of strings"),
    ("127.0.0.1:1", {"env": {}}, ValueError, "env= cannot be used with an address, only with a command"),
    ("127.0.0.1:1", {"cwd": "/"}, ValueError, "cwd= cannot be used with an address"),
    ("127.0.0.1:1", {"mtls": "cert"}, TypeError, "mtls=str: for an address give grpc.ChannelCredentials, or None"),
    ("plugin \\", {}, ValueError, "give it as a list: ['plugin', '\\\\']"),
    (["x"], {"history": 2**63}, ValueError, "at most"),
    (["x"], {"start_timeout": 10**400}, ValueError, "give a finite number of seconds"),
    (["x"], {"rng": 5}, TypeError, "rng=5: give a random.Random"),
    ("127.0.0.1:1", {"mtls": True}, ValueError, "give mtls=grpc.ssl_channel_credentials(...)"),
    (Peer(), {"mtls": True, "env": {}}, ValueError, "env=, mtls= cannot be used with a callable that makes links"),
    (["x"], {"mtls": "yes"}, TypeError, "mtls=str: for a command give True, False, or None"),
    (["x"], {"env": ["A=1"]}, TypeError, "env=list: give a mapping"),
    (["x"], {"env": {"A": 1}}, TypeError, "env: 'A' and its value must be strings, not int"),
    (["x"], {"env": {"A=B": "1"}}, ValueError, "env: 'A=B' cannot be the name of a variable"),
    (["x"], {"cwd": 3}, TypeError, "cwd=3: give a path"),
    (["x"], {"retry": 5}, TypeError, "retry=5: give a RetryPolicy"),
    (["x"], {"start_timeout": 0}, ValueError, "more than zero"),
    (["x"], {"start_timeout": "1"}, TypeError, "give a number of seconds"),
    (["x"], {"history": -1}, ValueError, "zero or more"),
    (["x"], {"history": 1.5}, TypeError, "a whole number of records"),
    (["x"], {"name": ""}, TypeError, "name='': give a string"),
    (["x"], {"services": 3}, TypeError, "services"),
]  # fmt: skip


@pytest.mark.parametrize(("target", "options", "error", "message"), REFUSED)
def test_wrong_targets_and_options_say_what_to_give(
    target: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Refused when the connection is made, not when it is opened."""
    with pytest.raises(error, match=re.escape(message)):
        Connection(target, **options)


def test_secrets_in_env_are_not_in_the_error() -> None:
    """A wrong value is named by its variable."""
    with pytest.raises(ValueError, match="env: 'TOKEN'") as caught:
        Connection(["x"], env={"TOKEN": "hunter2\0"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50051",
        "localhost:1",
        "[::1]:50051",
        "unix:/run/x.sock",
        "unix:///run/x.sock",
        "dns:///host:1",
        "a-b.example:65535",
    ],
)
def test_addresses(address: str) -> None:
    """What gRPC understands is an address, and its own name."""
    assert resolve_target(address)[1] == address


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/plugin", "--token", "x"], "plugin"),
        (["python", "calculator.py", "--token"], "calculator.py"),
        ([sys.executable, "-m", "fsm_conn.demo.calculator"], "fsm_conn.demo.calculator"),
        (["python3.12", "-c", "secret"], "python3.12"),
        ([pathlib.Path("/opt/plug")], "plug"),
        (("python", pathlib.Path("/a/b.py")), "b.py"),
    ],
)
def test_a_command_is_named_by_its_program_or_script(command: Any, name: str) -> None:
    """Never by its arguments, which may carry secrets."""
    assert Connection(command).name == name


def test_a_callable_makes_the_link() -> None:
    """Anything that can be called and gives a Link."""

    class Own(Link):
        async def open(self) -> None: ...
        async def close(self) -> None: ...
        async def lost(self) -> Exception:
            return OSError()

    conn = Connection(Own)
    assert (conn.name, type(conn._make_link())) == ("Own", Own)


@given(st.text())
def test_any_string_is_an_address_or_refused_clearly(text: str) -> None:
    """No other error than the documented one."""
    try:
        resolve_target(text)
    except ValueError as error:
        assert "is not an address" in str(error)  # noqa: PT017


async def test_a_link_that_lacks_something_says_so() -> None:
    """A link of one's own that makes no calls is still a link."""

    class Silent(Peer):
        pass

    link = Peer()()
    for use in (lambda: Link.stream(link, "m", None, {}, None), lambda: Link.channel.fget(link)):  # type: ignore[attr-defined]
        with pytest.raises(TypeError, match="PeerLink"):
            use()
    with pytest.raises(TypeError, match="PeerLink makes no calls"):
        await Link.call(link, "m", None, {}, None)
    assert Link.diagnostics(link) == ""


@pytest.mark.parametrize(
    "target", ["https://app:s3cret@db/x?key=s3cret", "postgres://app:s3cret@db", "run http://a:s3cret@b/"]
)
def test_the_password_of_a_target_is_not_in_its_error(target: str) -> None:
    """A URL that is no address is told without it."""
    with pytest.raises(ValueError, match="is not an address") as caught:
        resolve_target(target)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be used") as caught:
        resolve_target(target, env={"A": "b"})
    assert "s3cret" not in str(caught.value)
