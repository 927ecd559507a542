"""Nothing commands the terminal: whatever a peer replies, a user's module says or raises, or Python itself writes.

What is read here are the bytes that come out.
"""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    type_pb2,
    wrappers_pb2,
)
from google.protobuf.message import DecodeError, Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.text import Text
from screens import COMMAND, clean_environment

from fsm_conn import cli
from fsm_conn.cli.commands import call
from fsm_conn.cli.streams import PlainStream, plain_streams
from fsm_conn.cli.terminal import Console
from fsm_conn.links.grpc.methods import Method

EVIL = "\x1b]0;evil\x07\x1b[2J\x9b31m\r\u202e\u061c"
BLADE = "'\\x1b]0;evil\\x07\\x1b[2J\\x9b31m\\r\\u202e\\u061c'"
"""The same in Python's own writing."""

WELL_KNOWN: list[type[Message]] = [
    any_pb2.Any,
    descriptor_pb2.FileDescriptorProto,
    duration_pb2.Duration,
    empty_pb2.Empty,
    field_mask_pb2.FieldMask,
    struct_pb2.ListValue,
    struct_pb2.Struct,
    struct_pb2.Value,
    timestamp_pb2.Timestamp,
    type_pb2.Type,
    wrappers_pb2.BytesValue,
    wrappers_pb2.DoubleValue,
    wrappers_pb2.StringValue,
]


def assert_harmless(written: bytes) -> None:
    """Text in which no character commands, turns or hides anything."""
    text = written.decode()
    assert [
        each for each in text if each not in "\n\t" and unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl")
    ] == []


class Answering:
    """In place of a connection: its only method answers what the test says."""

    replies: tuple[Any, ...] = ()
    streams = False

    def __init__(self, *target: object, **options: object) -> None:
        self.link = SimpleNamespace(resolver=self)

    async def __aenter__(self) -> Answering:
        return self

    async def __aexit__(self, *exception: object) -> None: ...

    async def method(self, name: str) -> Method:
        return Method(name, False, self.streams, empty_pb2.Empty, empty_pb2.Empty, None)

    async def call(self, name: str, request: Message) -> Any:
        (reply,) = self.replies
        if isinstance(reply, BaseException):
            raise reply
        return reply

    async def stream(self, name: str, request: Message) -> Any:
        for reply in self.replies:
            yield reply


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> type[Answering]:
    monkeypatch.setattr(call, "Connection", Answering)
    monkeypatch.setattr(Answering, "replies", ())
    monkeypatch.setattr(Answering, "streams", False)
    return Answering


def written_by(*arguments: str) -> tuple[int, bytes, bytes]:
    """Run the command within this process: its status, and the bytes of both streams."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before, handler = (sys.stdout, sys.stderr), signal.getsignal(signal.SIGINT)
    sys.stdout, sys.stderr = out, err
    try:
        status = cli.main(arguments)
    finally:
        sys.stdout, sys.stderr = before
        with suppress(RuntimeError):  # asyncio leaves its own behind when it cannot show an error; nor can `signal`
            signal.signal(signal.SIGINT, handler)
    shown = [each.buffer.getvalue() for each in (out, err)]  # type: ignore[attr-defined]
    for each in shown:
        assert_harmless(each)
    return status, shown[0], shown[1]


# --- replies --------------------------------------------------------------------------------------------------

NASTY = [
    any_pb2.Any(type_url="type.googleapis.com/\x1b[2Jno.such", value=b"x"),
    any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Duration", value=b"\xff\xff"),
    field_mask_pb2.FieldMask(paths=["a\x1b[2J_b", "\u202e"]),
    timestamp_pb2.Timestamp(seconds=2**62),
    timestamp_pb2.Timestamp(nanos=-1),
    duration_pb2.Duration(seconds=2**62, nanos=-5),
    struct_pb2.Value(number_value=float("inf")),
    struct_pb2.Value(number_value=float("nan")),
    struct_pb2.Value(),
    struct_pb2.Struct(fields={EVIL: struct_pb2.Value(string_value=EVIL)}),
    wrappers_pb2.StringValue(value=EVIL),
]


@pytest.mark.parametrize("reply", NASTY, ids=lambda reply: reply.DESCRIPTOR.name)
@pytest.mark.parametrize("streams", [False, True])
def test_a_reply_that_has_no_form_in_json(answering: type[Answering], reply: Message, streams: bool) -> None:
    """Is shown or told in one line, and nothing of it commands the terminal."""
    answering.replies, answering.streams = (reply,), streams
    status, out, err = written_by("call", "a.B", "--", "plugin")
    assert (status, out, err.count(b"\n")) == (0, out, 0) if status == 0 else (1, b"", 1)
    assert status == 0 or err.startswith(b"fsm-conn call: a.B: the reply has no form in JSON: ")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(WELL_KNOWN), data=st.binary(max_size=200), streams=st.booleans())
def test_any_bytes_as_a_reply_of_any_well_known_type(
    answering: type[Answering], kind: type[Message], data: bytes, streams: bool
) -> None:
    """Whatever the peer sends on the wire."""
    try:
        answering.replies = (kind.FromString(data),)
    except DecodeError:
        return
    answering.streams = streams
    assert written_by("call", "a.B", "--", "plugin")[0] in (0, 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=[])), kind=st.sampled_from(WELL_KNOWN))
def test_any_text_in_a_reply(answering: type[Answering], text: str, kind: type[Message]) -> None:
    """In each field that holds text."""
    reply = kind()
    for field in reply.DESCRIPTOR.fields:
        if field.type == field.TYPE_STRING:
            try:
                getattr(reply, field.name).append(text) if field.is_repeated else setattr(reply, field.name, text)
            except ValueError:  # half a surrogate pair cannot be sent
                return
    answering.replies = (reply,)
    assert written_by("call", "a.B", "--", "plugin")[0] in (0, 1)


class Mute(BaseException):
    """Says nothing, and is no `Exception`."""

    def __str__(self) -> str:
        raise RuntimeError(EVIL)

    __repr__ = __str__


@pytest.mark.parametrize(
    "error", [Mute(), BaseException(EVIL), SystemExit(EVIL), KeyError(EVIL), GeneratorExit(EVIL), OSError(EVIL)]
)
def test_whatever_is_raised(answering: type[Answering], error: BaseException) -> None:
    """It ends with status 1 and one line; and with all of it for who asks, which is harmless as well."""
    answering.replies = (error,)
    status, out, err = written_by("call", "a.B", "--", "plugin")
    assert (status, out, err.count(b"\n")) == (1, b"", 1)


def test_the_traceback_of_what_nobody_expected(answering: type[Answering], monkeypatch: pytest.MonkeyPatch) -> None:
    """Is shown to who asks, and is harmless as well."""
    answering.replies = (ValueError(EVIL),)
    monkeypatch.setenv("FSM_CONN_TRACEBACK", "1")
    assert b"Traceback" in written_by("call", "a.B", "--", "plugin")[2]


def test_an_endless_error_is_cut(answering: type[Answering]) -> None:
    """Its beginning and its end are shown."""
    answering.replies = (ValueError("x" * 1_000_000 + "end"),)
    err = written_by("call", "a.B", "--", "plugin")[2]
    assert len(err) < 20_000
    assert err.endswith(b"xend\n")


# --- modules --------------------------------------------------------------------------------------------------

MODULES = {
    "raises": f"raise ValueError({BLADE})",
    "raises_base": f"raise BaseException({BLADE})",
    "raises_exit": f"raise SystemExit({BLADE})",
    "raises_mute": f"class E(BaseException):\n    def __str__(self): raise E({BLADE})\n    __repr__ = __str__\nraise E",
    "raises_named": f"raise type({BLADE}, (Exception,), {{}})('x')",
    "syntax": f"x = (\n# {BLADE}",
    "prints": f"import sys; print({BLADE}); print({BLADE}, file=sys.stderr); X = 5",
    "logs": f"import logging; logging.getLogger('x').error({BLADE}); X = 5",
    "lists": f"__all__ = [{BLADE}, 5, None]",
    "lists_badly": f"class L:\n    def __iter__(self): raise BaseException({BLADE})\n__all__ = L()",
    "getattr": f"def __getattr__(name): raise BaseException({BLADE})",
    "lifecycle": f"class M(type):\n    def __getattribute__(s, n): raise BaseException({BLADE})\nclass X(metaclass=M): pass",
    "shows": f"class X:\n    def __repr__(self): raise BaseException({BLADE})\n    __class__ = property(__repr__)\nX = X()",
    "states": f"from transitions import Machine\nX = Machine(states=[{BLADE}, 'b'], initial='b')",
    "fires": f"from transitions import Machine\nX = Machine(states=['a', 'b'], initial='b')\nX.add_transition({BLADE}, 'a', 'b', conditions={BLADE})",
    "machine": (
        "from fsm_conn import Connection, insert_state\n"
        f"class X(insert_state(Connection, {BLADE}, after='connecting')): pass"
    ),
    "makes": f"from fsm_conn import Connection\nclass X(Connection):\n    def __init__(self, *a, **k): raise BaseException({BLADE})",
    "named_badly": f"from fsm_conn import Connection\nX = type({BLADE}, (Connection,), {{}})",
}  # fmt: skip
LASTING = {
    **{name: MODULES[name] for name in ("raises_mute", "prints")},
    "deletes": f"class D:\n    def __del__(self): raise ValueError({BLADE})\nX = D()",
    "threads": f"import threading\ndef f(): raise ValueError({BLADE})\nt = threading.Thread(target=f); t.start(); t.join()",
    "warns": f"import warnings; warnings.warn({BLADE}); X = 5",
    "hooks": f"import sys\ndef f(*a): print({BLADE}, file=sys.__stderr__)\nsys.excepthook = sys.unraisablehook = f\nX = 1",
}  # fmt: skip
"""Some do more to their process than tests in one process could bear."""
COMMANDS = {
    "check": ("check",),
    "check --format json": ("check", "--format", "json"),
    "check --format sarif": ("check", "--format", "sarif"),
    "diagram": ("diagram",),
    "diagram --format svg": ("diagram", "--format", "svg"),
    "diagram --format rst": ("diagram", "--format", "rst"),
    "diagram --format dot": ("diagram", "--format", "dot"),
    "explore": ("explore", "--depth", "1", "--lives", "1"),
    "explore --make": ("explore", "fsm_conn:Connection", "--depth", "1", "--lives", "1", "--make"),
    "trace": ("trace", "-", "--class"),
    "call": ("call", "--list", "--services"),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_module_of_a_user(
    name: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answering: type[Answering]
) -> None:
    """Whatever stands in it: it ends with a status of ours, and what is written is harmless."""
    (tmp_path / f"hostile_{name}.py").write_text(MODULES[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    module = f"hostile_{name}"
    for given_name in (module, f"{module}:X", f"{tmp_path}/{module}.py:X", f"{module}:{EVIL}"):
        after = ("--", "plugin") if command == "call" else ()
        status, _, err = written_by(*COMMANDS[command], given_name, *after)
        assert status in (0, 1, 2)
        assert len(err) < 20_000


@pytest.mark.parametrize("name", LASTING)
def test_the_last_words_of_the_process(name: str, tmp_path: Path) -> None:
    """Also what is written when the command has ended, while the interpreter does."""
    (tmp_path / "hostile.py").write_text(f"import atexit\natexit.register(lambda: print({BLADE}))\n{LASTING[name]}")
    ended = subprocess.run(
        [*COMMAND, "check", f"{tmp_path}/hostile.py:X"], capture_output=True, check=False, env=clean_environment()
    )
    assert ended.returncode == 1
    assert_harmless(ended.stdout + ended.stderr)
    assert b"\\x1b]0;evil" in ended.stdout + ended.stderr


@pytest.mark.parametrize("name", ["lists", "getattr", "lists_badly", "raises_base", "states", "machine"])
@pytest.mark.parametrize("words", ["check {}:", "diagram {}:X --state ", "check {}.py:", "trace --class {}:"])
def test_completions(name: str, words: str, tmp_path: Path) -> None:
    """What a shell is told is written on the terminal by the shell."""
    (tmp_path / "hostile.py").write_text(MODULES[name])
    line = f"fsm-conn {words.format('hostile')}"
    asked = {"_FSM_CONN_COMPLETE": "zsh_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    ended = subprocess.run(
        COMMAND, capture_output=True, check=False, env=clean_environment(**asked), cwd=tmp_path, timeout=200
    )
    assert_harmless(ended.stdout + ended.stderr)


# --- the streams ----------------------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=[])))
def test_what_is_drawn_is_plain(text: str) -> None:
    """On a terminal, where only styles become escapes."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system=None, markup=False, emoji=False)
    console.print(Text(text), soft_wrap=True)
    console.print(text)
    assert_harmless(out.getvalue().encode())


@given(st.lists(st.text(st.characters(exclude_categories=[]))))
def test_a_plain_stream(lines: list[str]) -> None:
    """Whichever method writes; what is no text is refused, as by any text stream."""
    below = io.StringIO()
    stream = PlainStream(below)
    stream.writelines(lines)
    print(*lines, file=stream)
    assert_harmless(below.getvalue().encode())
    with pytest.raises(TypeError):
        stream.write(b"\x1b")  # type: ignore[arg-type]


def test_the_streams_are_put_back() -> None:
    """For who runs the command within his own process."""
    before = sys.stdout, sys.stderr
    with plain_streams(for_good=False):
        assert isinstance(sys.stdout, PlainStream)
    assert (sys.stdout, sys.stderr) == before
