"""Whether a command can be forked from a template, and from which one.

Rules that hold here:

- A command that cannot be judged for sure is not forked: an interpreter whose name does not say so, an unknown option,
  or a program that comes from anywhere but `-m` or a file.
- Plugins share a template only if they agree in all that an import could see: interpreter and options, environment
  (except what differs from start to start), directory, user, limits. An interpreter that was replaced is another one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import attrs

__all__ = [
    "FIRST_PAUSE",
    "LONGEST_PAUSE",
    "CannotForkError",
    "Key",
    "Program",
    "Refusal",
    "executed",
    "key_of",
    "program_of",
]

_INTERPRETER = re.compile(r"python(3(\.[0-9]+)?)?")
_FLAGS = frozenset("bBdEIOPqRsSuv")
"""Options of the interpreter that have no value and affect only the interpreter."""
_VALUED = frozenset("WX")
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 3600.0
"""Seconds before a template that could not import is tried again."""
LONGEST_HEAD = 256
"""Bytes at the beginning of a script in which Linux looks for the interpreter."""


class CannotForkError(Exception):
    """Why a plugin is to be started without a template, in words that follow "because".

    Args:
        why: these words.
        may_pass: whether it may be otherwise another time.
    """

    def __init__(self, why: str, *, may_pass: bool = False) -> None:
        super().__init__(why)
        self.may_pass = may_pass


@attrs.frozen
class Refusal:
    """Why plugins of one key are spawned, until a template has found it otherwise.

    An import may have failed because a file of it was being written, so what may pass is tried again after a pause,
    which doubles. What an import would do each time, such as starting a thread, is not: it may have effects elsewhere.

    Attributes:
        until: when it is tried again, by `time.monotonic()`.
    """

    why: str
    until: float
    pause: float

    @classmethod
    def of(cls, error: CannotForkError, now: float, earlier: Refusal | None) -> Refusal:
        """The refusal for an error, after an earlier one."""
        pause = FIRST_PAUSE if earlier is None else min(2 * earlier.pause, LONGEST_PAUSE)
        return cls(str(error), now + pause if error.may_pass else float("inf"), pause)


def executed(path: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The command that the kernel executes for a program: for a script, that of the interpreter in its `#!` line.

    Raises:
        ValueError: an argument contains a NUL, which no system takes.
    """
    if any("\0" in argument for argument in arguments):
        raise ValueError("embedded null byte")
    with open(path, "rb") as file:
        head = file.read(LONGEST_HEAD)
    if not head.startswith(b"#!"):
        return (path, *arguments)
    words = map(os.fsdecode, head[2:].partition(b"\n")[0].strip().split(None, 1))
    return (*words, path, *arguments)


@attrs.frozen
class Program:
    """A command of the Python interpreter, taken apart."""

    options: tuple[str, ...]
    kind: str
    """`module` or `script`."""
    name: str
    arguments: tuple[str, ...]

    @property
    def is_isolated(self) -> bool:
        """Whether the interpreter is told not to look for modules beside the program."""
        return any(not option.startswith(("-W", "-X")) and {"I", "P"} & {*option} for option in self.options)


def program_of(command: tuple[str, ...]) -> Program:
    """Take a command apart.

    Raises:
        CannotForkError: it is no command of an interpreter, or of one that cannot be forked.
    """
    if not _INTERPRETER.fullmatch(os.path.basename(command[0])):
        raise CannotForkError("its command does not begin with a Python interpreter")
    words = list(command[1:])
    options: list[str] = []
    while words and words[0].startswith("-") and words[0] != "-":
        word = words.pop(0)
        flags, rest = _flags(word)
        if flags:
            options.append(f"-{flags}")
        if rest[:1] == "m":
            name = [rest[1:]] if rest[1:] else [words.pop(0)] if words else []
            return Program(tuple(options), "module", _named(name), tuple(words))
        if rest:
            options.append(_valued(rest, words))
    return Program(tuple(options), "script", _named(words[:1]), tuple(words[1:]))


def _flags(word: str) -> tuple[str, str]:
    """The options without a value at the beginning of a word, and the rest of the word."""
    letters = word[1:]
    end = next((at for at, letter in enumerate(letters) if letter not in _FLAGS), len(letters))
    return letters[:end], letters[end:]


def _valued(rest: str, words: list[str]) -> str:
    if rest[0] not in _VALUED:
        raise CannotForkError(f"the interpreter's option -{rest[0]} is none that a template can be given")
    if not rest[1:] and not words:
        raise CannotForkError("its command is not complete")
    return f"-{rest[0]}{rest[1:] or words.pop(0)}"


def _named(words: list[str]) -> str:
    if not words or words[0] in ("-", ""):
        raise CannotForkError("its command names no module and no file")
    return words[0]


@attrs.frozen
class Key:
    """What plugins must have in common to share a template. It holds secrets, and shows none."""

    interpreter: tuple[str, ...] = attrs.field(repr=False)
    env: frozenset[tuple[str, str]] = attrs.field(repr=False)
    cwd: str
    beside: str
    """The directory of the program, where Python looks for modules first."""
    program: tuple[str, str] = attrs.field(repr=False)
    """The kind and the name of the program whose first imports are to be made; empty strings: no program."""
    modules: tuple[str, ...] = attrs.field(repr=False)
    """What is to be imported."""
    standing: tuple[object, ...] = attrs.field(repr=False)


def key_of(path: str, program: Program, env: Mapping[str, str], cwd: str | None, modules: tuple[str, ...]) -> Key:
    """The key of the template from which a plugin is forked.

    Args:
        path: the interpreter, absolute.
        program: the command.
        env: the environment, except what differs from start to start.
        cwd: the directory of the plugin; None: that of this process.
        modules: what to import beforehand; empty: what the program imports first.

    Raises:
        CannotForkError: the program, or its directory, cannot be found.
    """
    try:
        here = os.path.realpath(cwd or os.getcwd())
    except OSError:
        raise CannotForkError("its directory is no more") from None
    beside = here
    if program.kind == "script":
        script = os.path.realpath(os.path.join(here, program.name))
        if not os.path.isfile(script):
            raise CannotForkError("its program is not a file")
        beside = os.path.dirname(script)
    binary = os.stat(path)
    return Key(
        interpreter=(path, *program.options),
        env=frozenset(env.items()),
        cwd=here,
        beside=beside,
        program=("", "") if modules else (program.kind, program.name),
        modules=modules,
        standing=(binary.st_ino, binary.st_mtime_ns, *_standing()),
    )


def _standing() -> tuple[object, ...]:
    """What else a process inherits from its parent.

    User and groups, session, file mode mask, ignored signals, limits, priority, cores, control groups, and whom the
    kernel kills first for memory.
    """
    import resource  # which not every system has

    numbers = sorted({number for name, number in vars(resource).items() if name.startswith("RLIMIT_")})
    status = tuple(re.findall(r"^(?:Umask|SigIgn):\s*(\S+)$", Path("/proc/self/status").read_text(), re.MULTILINE))
    groups = tuple(Path(f"/proc/self/{name}").read_text() for name in ("cgroup", "oom_score_adj"))
    limits = tuple(map(resource.getrlimit, numbers))
    return (
        *(os.getresuid(), os.getresgid(), tuple(os.getgroups()), os.getsid(0)),
        *(status, groups, limits, os.getpriority(os.PRIO_PROCESS, 0), frozenset(os.sched_getaffinity(0))),
    )
