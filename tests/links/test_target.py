"""Targets and options: what each is taken for, and what is said of those that are wrong."""

from __future__ import annotations

import asyncio
import json
import pathlib
import pickle
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peer import Peer

from fsm_conn import Connection, Endpoint, Link, Plugin, Reattach, Tls
from fsm_conn._util.text import RISKY
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
    ("127.0.0.1:1", {"mtls": "cert"}, TypeError, "give Endpoint('127.0.0.1:1', credentials=Tls(...)) as the target"),
    ("plugin \\", {}, ValueError, "give it as a list: ['plugin', '\\\\']"),
    (["x"], {"history": 2**63}, ValueError, "at most"),
    (["x"], {"start_timeout": 10**400}, ValueError, "give a finite number of seconds"),
    (["x"], {"rng": 5}, TypeError, "rng=5: give a random.Random"),
    ("127.0.0.1:1", {"mtls": True}, TypeError, "mtls= is for plugins"),
    ("http://host:1/", {}, ValueError, "gRPC's addresses have no http://; give 'host:1'"),
    ("https://host:1", {}, ValueError, "give 'host:1', and Endpoint('host:1', credentials=Tls()) for TLS"),
    ("localhost", {}, ValueError, "it has no port; give such as 'localhost:50051'"),
    ("db.example", {}, ValueError, "it has no port; give such as 'db.example:50051'"),
    ("unix:/a b/x.sock", {}, ValueError, "write a space as %20, 'unix:/a%20b/x.sock'"),
    ("/run/my dir/x.sock", {}, ValueError, "if it is a socket, give 'unix:/run/my%20dir/x.sock'"),
    ("unix:/" + "a" * 107, {}, ValueError, "has a socket path of 108 bytes, and the system takes 107"),
    (Endpoint("h:1"), {"env": {}}, ValueError, "env= cannot be used with Endpoint(...), only with a command"),
    (Plugin(["x"]), {"cwd": "/"}, ValueError, "cwd= cannot be used with a Plugin, which has its own: give it there, or"),
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


# ---- targets as values -------------------------------------------------------------------------------------------------

ENTRIES = st.dictionaries(st.from_regex(r"[A-Z]{1,8}", fullmatch=True), st.from_regex(r"[a-z ]{0,8}", fullmatch=True))
PLUGINS = st.builds(
    Plugin,
    st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1),
    env=ENTRIES,
    inherit_env=st.booleans(),
    mtls=st.sampled_from([None, True, False]),
    versions=st.lists(st.integers(0, 9)),
    sha256=st.none() | st.binary(min_size=32, max_size=32),
    max_message=st.integers(1, 2**31 - 1),
    options=st.dictionaries(st.just("grpc.max_metadata_size"), st.integers(1, 9)),
)
ENDPOINTS = st.builds(
    Endpoint,
    st.sampled_from(["h:1", "unix:/x", "ipv4:10.0.0.1:80,10.0.0.2:80"]),
    credentials=st.none() | st.builds(Tls, roots=st.none() | st.binary()),
    metadata=st.dictionaries(st.just("token"), st.from_regex(r"[a-z]{1,8}", fullmatch=True)),
    authority=st.none() | st.just("service.test"),
)


class AsyncToken:
    async def __call__(self) -> dict[str, str]:
        return {}


REATTACHES = st.builds(Reattach, st.just("unix:/x"), pid=st.none() | st.integers(1, 99), version=st.integers(1, 6))


@given(PLUGINS | ENDPOINTS | REATTACHES)
def test_targets_are_values(target: Plugin | Endpoint | Reattach) -> None:
    """They travel, compare by what they say, cannot be changed, and make a connection."""
    travelled = pickle.loads(pickle.dumps(target))
    assert travelled == target
    assert hash(travelled) == hash(target)
    with pytest.raises(AttributeError):
        target.options = ()  # type: ignore[misc]
    assert Connection(target).name == target.name


def test_targets_do_not_show_what_is_secret() -> None:
    """Neither what is in the environment, nor keys, nor metadata."""
    shown = [
        Plugin(["x"], env={"TOKEN": "hunter2"}),
        Endpoint("h:1", metadata={"token": "hunter2"}, credentials=Tls(certificate=b"c", key=b"hunter2")),
        Tls(certificate=b"c", key=b"hunter2"),
    ]
    assert "hunter2" not in repr(shown)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Plugin("x y"), "str is no target"),
        (lambda: Plugin(["x"], sha256="abc"), "give the 64 hexadecimal digits"),
        (lambda: Plugin(["x"], versions=["5"]), "versions=['5']: give whole numbers"),
        (lambda: Plugin(["x"], stdin="tty"), "stdin='tty': give 'null', 'inherit', or the number"),
        *(
            (lambda modules=modules: Plugin(["x"], prefork=modules), f"prefork={modules!r}: give True, or the names of")  # type: ignore[misc]
            for modules in ("numpy", (), [1], ["a.b", "a b"], ["-c"], ["a."], None, 3)
        ),
        (lambda: Plugin(["x"], max_message=0), "max_message=0: give a number of bytes"),
        (lambda: Plugin(["x"], inherit_env="no"), "inherit_env='no': give True or False"),
        (lambda: Plugin(["x"], mtls=True, credentials=Tls()), "give one of the two"),
        (lambda: Plugin(["x"], options=5), "options=int: give a mapping, or pairs"),
        (lambda: Endpoint("h:1", metadata={"Token": "x"}), "Endpoint(metadata=...): 'Token' may have only lower-case"),
        (lambda: Endpoint("h:1", credentials="x"), "credentials=str: give Tls(...)"),
        (lambda: Endpoint("h:1", compression="zip"), "compression='zip': give 'gzip'"),
        (lambda: Endpoint(["h:1"]), "list is no address"),
        (lambda: Reattach("h:1", pid=0), "pid=0: give the number of a process"),
        (lambda: Reattach("h:1", pid=2**31), "pid=2147483648: give the number of a process"),
        (lambda: Reattach("h:1", version="6"), "version='6'): give a whole number"),  # type: ignore[arg-type]
        (lambda: Plugin(["x"], metadata=asyncio.sleep), "Plugin(metadata=...): an async function cannot be waited for"),  # type: ignore[arg-type]
        (lambda: Endpoint("h:1", metadata=AsyncToken()), "give a function that returns the current one"),  # type: ignore[arg-type]
        (lambda: Reattach("unix:/x", end_on_close=1), "end_on_close=1: give True or False"),  # type: ignore[arg-type]
        (lambda: Reattach("unix:/x", end_on_close=True), "end_on_close=True needs pid= and a unix: address"),
        (lambda: Reattach("h:1", pid=1, end_on_close=True), "end_on_close=True needs pid= and a unix: address"),
        (lambda: Endpoint("unix:/run/\x1b[2J.sock"), r"'unix:/run/\x1b[2J.sock' is not an address"),
        (lambda: Endpoint("unix:/run/\u202e.sock"), r"'unix:/run/\u202e.sock' is not an address"),
        (lambda: Endpoint("unix:/run/\ud800.sock"), r"'unix:/run/\ud800.sock' is not an address"),
        (lambda: Tls(key=b"x"), "give both certificate= and key="),
    ],
)  # fmt: skip
def test_wrong_options_of_targets_say_what_to_give(make: Callable[[], Any], message: str) -> None:
    """When the value is made."""
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        make()


def test_a_plugin_under_a_debugger_tells_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Terraform's providers print it."""
    told = {"Protocol": "grpc", "ProtocolVersion": 6, "Pid": 7, "Addr": {"Network": "unix", "String": "/tmp/p.sock"}}
    monkeypatch.setenv("TF_REATTACH_PROVIDERS", json.dumps({"a/b": told}))
    assert Reattach.from_env() == Reattach("unix:/tmp/p.sock", pid=7, version=6)
    monkeypatch.setenv("OTHER", json.dumps({"a/b": told, "c/d": told}))
    assert Reattach.from_env("OTHER", "c/d").pid == 7
    for plugin in ("x/y", None):
        with pytest.raises(ValueError, match="OTHER"):
            Reattach.from_env("OTHER", plugin)
    monkeypatch.setenv("OTHER", json.dumps({"a/b": {**told, "Protocol": "netrpc"}}))
    with pytest.raises(ValueError, match="does not serve gRPC: set GRPCServer in it"):
        Reattach.from_env("OTHER")
    for wrong in ("", "[]", "{}", '{"a": 1}'):
        monkeypatch.setenv("OTHER", wrong)
        with pytest.raises(ValueError, match="does not tell where a plugin runs"):
            Reattach.from_env("OTHER")


TOLD = st.fixed_dictionaries(
    {},
    optional={
        "Pid": st.one_of(st.integers(), st.none(), st.text(), st.booleans()),
        "ProtocolVersion": st.one_of(st.integers(), st.text(), st.lists(st.integers())),
        "Addr": st.fixed_dictionaries(
            {
                "Network": st.one_of(st.just("unix"), st.just("tcp"), st.lists(st.text())),
                "String": st.one_of(st.text(), st.just("/tmp/p.sock"), st.just("h:1"), st.integers(), st.none()),
            }
        ),
    },
)


@pytest.mark.parametrize("deep", ["[" * 60_000, '{"a":' * 20_000, "9" * 5000])
def test_what_is_nested_without_a_bottom_is_no_plugin(monkeypatch: pytest.MonkeyPatch, deep: str) -> None:
    """It is the same error."""
    monkeypatch.setenv("OTHER", deep)
    with pytest.raises(ValueError, match="does not tell where a plugin runs"):
        Reattach.from_env("OTHER")


@given(
    st.one_of(
        st.dictionaries(st.text(), TOLD), st.just({"p" * 60_000: {}}), st.just(dict.fromkeys(map(str, range(9999))))
    )
)
def test_whatever_the_variable_holds_is_a_plugin_or_a_short_error(told: Any) -> None:
    """In characters that command no terminal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTHER", json.dumps(told))
        for plugin in (None, next(iter(told), None)):
            try:
                Reattach.from_env("OTHER", plugin)
            except ValueError as error:
                assert len(str(error)) < 4000  # noqa: PT017
                assert not RISKY.search(str(error))  # noqa: PT017


def test_an_error_about_a_long_address_is_short() -> None:
    """Whoever wrote it."""
    for long in ("x" * 60_000, "unix:/" + "x" * 60_000, "http://" + "x" * 60_000, "x " * 60_000, "/" + "x" * 60_000):
        with pytest.raises(ValueError, match=r"is not an address|has a socket path") as caught:
            Endpoint(long)
        assert len(str(caught.value)) < 2000
