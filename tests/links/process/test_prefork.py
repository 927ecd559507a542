"""What decides whether, and from which template, a plugin is forked; and what a template and its host say to each other."""

from __future__ import annotations

import ast
import os
import runpy
import signal
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traces import removed

from fsm_conn.links.process import prefork, prefork_child
from fsm_conn.links.process.prefork_child import Birth, ForkedChild, is_child
from fsm_conn.links.process.prefork_plan import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    CannotForkError,
    Refusal,
    key_of,
    program_of,
)
from fsm_conn.links.process.prefork_wire import LONGEST_ANSWER, TemplateGoneError, Wire

ROOM = Path(prefork.PROGRAM)


@pytest.fixture(scope="module")
def template() -> Any:
    """The modules of the template, loaded as it loads them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOM))
        loaded = {
            name: runpy.run_path(str(ROOM / f"{name}.py")) for name in ("forking", "importing", "becoming", "sources")
        }
        loaded["main"] = runpy.run_path(str(ROOM / "__main__.py"))
        for name in ("forking", "importing", "becoming", "sources"):
            sys.modules.pop(name, None)
    return loaded


class TestCommands:
    @pytest.mark.parametrize(
        ("words", "options", "kind", "name", "arguments"),
        [
            ("python -m calc", "", "module", "calc", ""),
            ("/x/bin/python3.11 -mcalc -m b", "", "module", "calc", "-m b"),
            ("python3 -S -E x.py a -c", "-S -E", "script", "x.py", "a -c"),
            ("python -SEm calc", "-SE", "module", "calc", ""),
            ("python -W error -Xdev -u calc.py", "-Werror -Xdev -u", "script", "calc.py", ""),
            ("python -uWerror calc.py", "-u -Werror", "script", "calc.py", ""),
        ],
    )
    def test_taken_apart(self, words: str, options: str, kind: str, name: str, arguments: str) -> None:
        """As the interpreter reads them."""
        program = program_of(tuple(words.split()))
        assert program.options == tuple(options.split())
        assert (program.kind, program.name, program.arguments) == (kind, name, tuple(arguments.split()))

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            ("calculator", "does not begin with a Python interpreter"),
            ("pypy3 -m calc", "does not begin with a Python interpreter"),
            ("sudo -u nobody python -m calc", "does not begin with a Python interpreter"),
            ("pythonw.sh x", "does not begin with a Python interpreter"),
            ("python2 x.py", "does not begin with a Python interpreter"),
            ("python -c pass", "option -c is none"),
            ("python -i x.py", "option -i is none"),
            ("python --help x.py", "option -- is none"),
            ("python", "names no module"),
            ("python -m", "names no module"),
            ("python -", "names no module"),
            ("python -W", "not complete"),
        ],
    )
    def test_refused(self, words: str, why: str) -> None:
        """What cannot be told for sure is not forked."""
        with pytest.raises(CannotForkError, match=why):
            program_of(tuple(words.split()))

    @given(st.lists(st.text(st.sampled_from("-mWXcSEIuxyz. "), max_size=4), max_size=5))
    def test_any_command_is_taken_apart_or_refused(self, words: list[str]) -> None:
        """Nothing is lost on the way, and nothing but the one error is raised."""
        try:
            program = program_of(("python", *words))
        except CannotForkError:
            return
        assert program.name
        assert list(program.arguments) == words[len(words) - len(program.arguments) :]
        joined = "".join(words[: len(words) - len(program.arguments)])
        assert joined.endswith(program.name)


class TestKeys:
    def key(self, tmp_path: Path, **changed: Any) -> Any:
        (tmp_path / "x.py").touch()
        given: dict[str, Any] = {"words": ("python", "x.py"), "env": {"A": "1"}, "cwd": str(tmp_path), "modules": ()}
        given |= changed
        return key_of(sys.executable, program_of(given["words"]), given["env"], given["cwd"], given["modules"])

    def test_what_an_import_cannot_tell_apart_is_one(self, tmp_path: Path) -> None:
        """Arguments of the plugin are its own."""
        assert self.key(tmp_path) == self.key(tmp_path, words=("python", "x.py", "argument"))

    @pytest.mark.parametrize(
        "changed",
        [
            {"env": {"A": "2"}},
            {"env": {}},
            {"cwd": "/", "words": ("python", "{}/x.py")},
            {"words": ("python", "-S", "x.py")},
            {"words": ("python", "-m", "x")},
            {"modules": ("json",)},
        ],
    )
    def test_what_it_can_tell_apart_is_another(self, tmp_path: Path, changed: dict[str, Any]) -> None:
        """Environment, directory, options, imports."""
        if "words" in changed:
            changed = {**changed, "words": tuple(word.format(tmp_path) for word in changed["words"])}
        assert self.key(tmp_path) != self.key(tmp_path, **changed)

    def test_an_interpreter_that_was_replaced(self, tmp_path: Path) -> None:
        """Its library may be another one now."""
        program, python = program_of(("python", "-m", "json")), tmp_path / "python"
        python.touch()
        before = key_of(str(python), program, {}, None, ())
        assert key_of(str(python), program, {}, None, ()) == before
        os.utime(python, (1, 1))
        assert key_of(str(python), program, {}, None, ()) != before

    def test_what_a_process_inherits(self, tmp_path: Path) -> None:
        """A template that was started under another mask, or other limits, is another's."""
        before = self.key(tmp_path)
        mask = os.umask(0o027)
        try:
            assert self.key(tmp_path) != before
        finally:
            os.umask(mask)
        assert self.key(tmp_path) == before
        handler = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        try:
            assert self.key(tmp_path) != before
        finally:
            signal.signal(signal.SIGUSR1, handler)
        assert self.key(tmp_path) == before

    @pytest.mark.parametrize("what", ["getsid", "getresuid"])
    def test_another_user_or_session(self, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nor is one of another user or session, when this process has changed its own."""
        before = self.key(tmp_path)
        monkeypatch.setattr(os, what, lambda *_: (1, 2, 3))
        assert self.key(tmp_path) != before

    def test_named_modules_are_shared_by_all_programs(self, tmp_path: Path) -> None:
        """Where they are looked for is the same."""
        (tmp_path / "y.py").touch()
        one, two = (self.key(tmp_path, words=("python", name), modules=("json",)) for name in ("x.py", "y.py"))
        assert one == two

    def test_secrets_are_not_shown(self, tmp_path: Path) -> None:
        """A key holds the environment."""
        assert "MARKED" not in repr(self.key(tmp_path, env={"TOKEN": "MARKED"}))

    def test_no_program(self, tmp_path: Path) -> None:
        """A folder, or nothing: the interpreter itself shall say what it thinks of it."""
        for name in (".", "none.py"):
            with pytest.raises(CannotForkError, match="is not a file"):
                self.key(tmp_path, words=("python", name))

    def test_no_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The host's own was removed under it."""
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        with pytest.raises(CannotForkError, match="no more"):
            self.key(tmp_path, cwd=None)


PROGRAM = '''"""A program."""
from __future__ import annotations
import os
if TYPE_CHECKING:
    import never
os.environ.setdefault("A", "b")
os.environ["C"] = "d"
try:
    import tomllib
except ImportError:
    tomllib = None
logger = logging.getLogger(__name__)
LIMIT: int = 3
import json
def f(): import never
class K: import never
import decimal
{stop}
import never
'''


class TestLeadingImports:
    @pytest.mark.parametrize(
        "stop",
        [
            "sys.path.insert(0, 'x')",
            "app = Flask()",
            "x.y = 1",
            "os.environ['A'] = name",
            "os.environ.setdefault(name, 'x')",
            "if __name__ == '__main__': main()",
            "for x in y: pass",
            "try:\n    import a\nexcept ImportError:\n    sys.exit(1)",
            "with x: import a",
            "raise SystemExit",
            "monkey.patch_all()",
            "@register\ndef g(): pass",
            "class L(Base): pass",
            "class L(metaclass=M): pass",
        ],
    )
    def test_up_to_the_first_that_does_something(self, template: Any, stop: str) -> None:
        """Imports, and what libraries read of the environment; what follows something else may depend on it."""
        taken = list(template["importing"]["leading"](ast.parse(PROGRAM.format(stop=stop)).body))
        assert "never" not in "\n".join(map(ast.unparse, taken))
        assert [ast.unparse(node).split("\n")[0] for node in taken] == [
            "from __future__ import annotations",
            "import os",
            "os.environ.setdefault('A', 'b')",
            "os.environ['C'] = 'd'",
            "try:",
            "import json",
            "import decimal",
        ]

    def test_a_module_of_a_package(self, template: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its relative imports are its package's, and its own code is not run."""
        package = tmp_path / "leading_package"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "beside.py").touch()
        (package / "__main__.py").write_text("from . import beside\nimport wave\nraise SystemExit(3)\nimport nothing")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(sys, "argv", [*sys.argv])
        for name in ("leading_package", "leading_package.__main__"):
            with removed(str(tmp_path)):
                template["importing"]["run_leading"]("module", name)
                assert "leading_package.beside" in sys.modules
        with pytest.raises(ModuleNotFoundError), removed(str(tmp_path)):
            template["importing"]["run_leading"]("module", "leading_package.none")

    def test_the_template_takes_no_name_from_the_plugin(self, template: Any) -> None:
        """The modules that it consists of are not found by their short names."""
        assert not {"forking", "importing", "becoming", "sources"} & sys.modules.keys()


class TestWire:
    @pytest.fixture
    def wire(self) -> Any:
        wire = Wire()
        yield wire
        wire.close()

    def test_fields_and_descriptors(self, wire: Wire, template: Any) -> None:
        """What is said arrives, of any size, with what is beside it."""
        fields = ["", "a\udcff", "b" * 300_000, ""]
        reading, writing = os.pipe()
        saying = threading.Thread(target=wire.send, args=(fields, (writing,)))
        saying.start()
        got, descriptors = template["main"]["receive"](wire.theirs)
        saying.join()
        os.close(writing)
        assert list(map(os.fsdecode, got)) == fields
        assert not os.get_inheritable(descriptors[0])
        os.write(descriptors[0], b"x")
        assert os.read(reading, 2) == b"x"
        for fd in (reading, *descriptors):
            os.close(fd)

    def test_no_field_can_be_two(self, wire: Wire) -> None:
        """Else a word of a command could end a list, and begin another."""
        for fields in (["a\0b"], ["", "\0", ""]):
            with pytest.raises(ValueError, match="null byte"):
                wire.send(fields)

    def test_answers(self, wire: Wire, template: Any) -> None:
        """Yes, and no with a reason, which is made fit to be shown."""
        template["main"]["send"](wire.theirs, "+12")
        template["main"]["send"](wire.theirs, "-it \x1b[31mcannot\n")
        assert wire.answer(1) == "12"
        with pytest.raises(CannotForkError, match=r"^it cannot$"):
            wire.answer(1)

    def test_nobody_there(self, wire: Wire, template: Any) -> None:
        """Either side sees the end of the other."""
        wire.theirs.close()
        for use in (lambda: wire.answer(1), lambda: wire.send(["x"])):
            with pytest.raises(TemplateGoneError):
                use()
        there, here = socket.socketpair()
        there.close()
        assert template["main"]["receive"](here) == ([], [])
        here.close()

    def test_silence(self, wire: Wire) -> None:
        """It is waited for within the limit."""
        with pytest.raises(TemplateGoneError, match="does not answer"):
            wire.answer(0.01)

    def test_not_taken(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
        """A template that does not read is given up."""
        monkeypatch.setattr("fsm_conn.links.process.prefork_wire.SEND_LIMIT", 0.05)
        with pytest.raises(TemplateGoneError, match="does not listen"):
            wire.send(["x" * 10_000_000])

    @given(st.binary(max_size=64))
    def test_any_bytes_are_an_answer_or_none(self, data: bytes) -> None:
        """A template may say anything."""
        wire = Wire()
        wire.theirs.sendall(data)
        wire.theirs.close()
        try:
            said = wire.answer(1)
        except (CannotForkError, TemplateGoneError) as error:
            said = str(error)
        finally:
            wire.close()
        assert len(said) < 500

    def test_too_much(self, wire: Wire) -> None:
        """Nothing of it is even read."""
        wire.theirs.sendall(struct.pack("!I", LONGEST_ANSWER + 1))
        with pytest.raises(TemplateGoneError, match="too much"):
            wire.answer(1)


def test_what_is_learnt_of_plugins_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that cannot be forked, however many there are, and whatever reasons they tell."""
    for name in ("_refused", "_deaths", "_said"):
        monkeypatch.setattr(prefork, name, {})
    for number in range(3 * prefork.MOST_KNOWN):
        prefork._say_once("plugin", f"reason {number}")
        prefork._count_death(number)  # type: ignore[arg-type]
    assert len(prefork._said) == len(prefork._deaths) == prefork.MOST_KNOWN
    assert ("plugin", f"reason {number}") in prefork._said


def test_the_pause_after_which_a_template_is_tried_again_doubles() -> None:
    """It has an end; and what cannot pass is never tried again."""
    error, refusal, pauses = CannotForkError("why", may_pass=True), None, []
    for _ in range(20):
        refusal = Refusal.of(error, 1000.0, refusal)
        pauses.append(refusal.until - 1000.0)
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert refusal is not None
    assert refusal.why == "why"
    assert Refusal.of(CannotForkError("why"), 1000.0, None).until == float("inf")


class TestBirth:
    @pytest.mark.parametrize(
        ("said", "told"),
        [
            (b"", (0, False)),
            (b"12", (12, False)),
            (b"12 ", (12, False)),
            (b"12 0", (12, True)),
            (b"12 2", (12, False)),
            (b"x 0", (0, True)),
            ("٣ 0".encode(), (0, True)),
            (b"9" * 100, (int("9" * 64), False)),
        ],
    )
    def test_what_a_child_says_of_itself(self, said: bytes, told: tuple[int, bool]) -> None:
        """Whole or in part."""
        birth = Birth()
        os.write(birth.theirs[2], said)
        birth.close_theirs()
        assert birth.told(1) == told
        birth.close()

    def test_one_that_hangs(self) -> None:
        """It is not waited for longer than the limit."""
        birth = Birth()
        assert birth.told(0.01) == (0, False)
        birth.close()

    def test_descriptors_are_given_back(self) -> None:
        """All but those that were taken."""
        before = set(os.listdir("/proc/self/fd"))
        birth = Birth()
        out, err = birth.take()
        birth.close()
        birth.close()
        out.close()
        err.close()
        assert set(os.listdir("/proc/self/fd")) == before


def made(code: str) -> tuple[ForkedChild, list[str]]:
    """A child, and what is told of its end."""
    ended: list[str] = []
    birth = Birth()
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", code], {})
    child = ForkedChild(pid, *birth.take(), lambda: ended.append("ended"))
    birth.close()
    for pipe in (child.stdout, child.stderr):
        assert pipe is not None
        pipe.close()
    return child, ended


class TestForkedChild:
    def test_waited_for(self) -> None:
        """Its status is known, and its end is told once."""
        child, ended = made("exit 7")
        assert child.wait() == child.wait(0) == 7
        assert ended == ["ended"]
        assert not is_child(child.pid)

    def test_not_for_ever(self) -> None:
        """A time limit is kept; then it can be destroyed."""
        child, ended = made("exec sleep 100")
        with pytest.raises(prefork_child.subprocess.TimeoutExpired):
            child.wait(0.01)
        assert is_child(child.pid)
        assert not ended
        child.destroy()
        assert child.returncode == -9
        assert ended
        child.kill()

    @pytest.mark.parametrize(
        ("code", "killed"), [("kill -9 $$", True), ("kill -15 $$", True), ("kill -11 $$", False), ("exit 9", False)]
    )
    def test_killed_or_not(self, code: str, killed: bool) -> None:
        """By somebody, or by a fault of its own. It can be waited for afterwards."""
        child, _ = made(code)
        assert child.was_killed() == killed
        assert is_child(child.pid)
        child.wait()

    def test_taken_by_somebody_else(self) -> None:
        """As `subprocess` has it."""
        child, ended = made("exit 7")
        os.waitpid(child.pid, 0)
        assert child.wait() == 0
        assert ended

    def test_dropped(self) -> None:
        """Its end is told all the same, so that its template need not wait for it."""
        child, ended = made("exit 0")
        os.waitpid(child.pid, 0)
        del child
        assert ended == ["ended"]

    def test_strangers_are_no_children(self) -> None:
        """A number that a template tells may be anybody's."""
        assert not is_child(os.getpid())
        assert not is_child(1)
        assert not is_child(0)
        assert not is_child(-1)
        assert not is_child(2**70)
