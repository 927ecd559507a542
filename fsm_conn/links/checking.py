"""What a user says of a target, checked when it is said: each error tells what to give instead.

Everything that can be known to be wrong is refused here, without importing grpc or pyvider.
"""

from __future__ import annotations

import inspect
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from fsm_conn._util.secret_values import without_secrets
from fsm_conn._util.text import RISKY, quoted
from fsm_conn.links.base import checked_metadata

__all__ = [
    "Options",
    "checked_address",
    "checked_command",
    "checked_compression",
    "checked_cwd",
    "checked_digest",
    "checked_ending",
    "checked_env",
    "checked_metadata",
    "checked_options",
    "checked_pid",
    "checked_prefork",
    "checked_sink",
    "checked_size",
    "checked_source",
    "checked_stdin",
    "checked_versions",
    "command_name",
    "is_here",
    "must_have_plugins",
]

LONGEST_SOCKET_PATH = 107
"""Bytes: `sun_path` of Linux's `sockaddr_un`, less its closing NUL."""
LONGEST_ADDRESS = 4096
"""Characters; gRPC takes lists of several addresses."""
LONGEST_SHOWN = 500
"""Characters of what is no address that stand in the error."""
LARGEST_MESSAGE = 2**31 - 1
"""Bytes: gRPC's own limit, and what go-plugin's client takes."""

Options = Mapping[str, int | str | bytes] | Iterable[tuple[str, int | str | bytes]]

_SCHEME = re.compile(r"^(unix|unix-abstract|dns|ipv4|ipv6|vsock):\S+$")
_HOST_PORT = re.compile(r"^(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):([0-9]{1,5})$")
_HOST = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.-]*$")
_EXAMPLES = "such as '127.0.0.1:50051' or 'unix:/run/x.sock'"


def must_have_plugins(platform: str) -> None:
    """See that plugins can be processes of this host.

    Args:
        platform: as `sys.platform`.

    Raises:
        ValueError: they cannot.
    """
    if platform == "win32":
        raise ValueError("plugins are started on Linux and macOS only, and this is Windows: connect to an Endpoint")


def checked_address(address: str) -> str:
    """A gRPC address.

    Raises:
        ValueError: it is none.
    """
    if len(address) > LONGEST_ADDRESS or RISKY.search(address):
        raise ValueError(f"{quoted(without_secrets(address[:LONGEST_ADDRESS]))} is not an address {_EXAMPLES}")
    if _SCHEME.match(address):
        path = _socket_path(address)
        if path is not None and len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise ValueError(
                f"{quoted(address, 200)} has a socket path of {len(os.fsencode(path))} bytes, and the system takes "
                f"{LONGEST_SOCKET_PATH}: have the server listen at a shorter one, or link to its directory"
            )
        return address
    match = _HOST_PORT.match(address)
    if match and 0 < int(match[2]) < 65536:
        return address
    shown = without_secrets(address)
    remedy = _remedy(shown) if len(shown) <= LONGEST_SHOWN else ""
    raise ValueError(f"{quoted(shown, LONGEST_SHOWN)} is not an address {_EXAMPLES}{remedy}")


def _remedy(address: str) -> str:
    scheme, found, rest = address.partition("://")
    if found and scheme.lower() in ("http", "https", "grpc", "grpcs", "tcp"):
        host = rest.rstrip("/")
        secure = f", and Endpoint({host!r}, credentials=Tls()) for TLS" if scheme.endswith("s") else ""
        return f": gRPC's addresses have no {scheme}://; give {host!r}{secure}"
    if address.startswith("unix:") and " " in address:
        return f": write a space as %20, {address.replace(' ', '%20')!r}"
    if address.startswith(("/", "./", "../")):
        return f"; if it is a socket, give {'unix:' + quote(address)!r}, and if it is a command, [{address!r}]"
    if address.lower() == "localhost" or (_HOST.match(address) and "." in address):
        return f": it has no port; give such as {address + ':50051'!r}"
    words = _words(address)
    return f"; if it is a command, give it as a list: {words!r}" if words and ":" not in words[0] else ""


def _words(text: str) -> list[str]:
    import shlex  # only this error needs it

    try:
        return shlex.split(text)
    except ValueError:  # a quotation that does not end
        return text.split()


def _socket_path(address: str) -> str | None:
    return address.removeprefix("unix:").removeprefix("//") if address.startswith("unix:") else None


def is_here(address: str) -> bool:
    """Whether an address is on this machine for sure: a socket, or a loopback address."""
    if address.startswith(("unix:", "unix-abstract:", "vsock:")):
        return True
    host = re.sub(r"^(dns:(///?)?|ipv4:|ipv6:)", "", address).rpartition(":")[0].strip("[]")
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_command(command: Any) -> tuple[str, ...]:
    """A program and its arguments.

    Raises:
        TypeError, ValueError: no system could start it.
    """
    if isinstance(command, (str, bytes, Mapping, set, frozenset)) or not isinstance(command, Sequence):
        raise TypeError(
            f"{type(command).__name__} is no target: give a command as a list of strings, "
            "an address such as '127.0.0.1:50051', or a callable that makes a Link"
        )
    if not command:
        raise ValueError("the command is empty: give at least the program to run")
    words = []
    for index, word in enumerate(command):
        if not isinstance(word, (str, os.PathLike)):
            raise TypeError(f"command[{index}] is {word!r}: every word of a command must be a string or a path")
        words.append(os.fspath(word))
        if wrong := _what_no_system_takes(words[-1]):
            raise ValueError(f"command[{index}] contains {wrong}")
    if not words[0]:
        raise ValueError("command[0] is empty: give the program to run")
    return tuple(words)


def _what_no_system_takes(text: str | bytes) -> str | None:
    """What in a text cannot be handed to the operating system."""
    if isinstance(text, bytes):
        return "bytes: give text"
    if "\0" in text:
        return "a NUL character"
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        return f"{error.object[error.start]!r}, which is no character: it cannot be encoded"
    return None


def checked_env(env: Mapping[str, str] | tuple[tuple[str, str], ...] | None) -> tuple[tuple[str, str], ...]:
    """Environment variables, as pairs."""
    if env is None:
        return ()
    if isinstance(env, tuple):
        env = dict(env)
    if not isinstance(env, Mapping):
        raise TypeError(f"env={type(env).__name__}: give a mapping of names to values")
    for name, value in env.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"env: {name!r} and its value must be strings, not {type(value).__name__}")
        if not name or "=" in name or _what_no_system_takes(name):
            raise ValueError(f"env: {name!r} cannot be the name of a variable")
        if wrong := _what_no_system_takes(value):
            raise ValueError(f"env: {name!r} has a value that contains {wrong}")
    return tuple(env.items())


def checked_cwd(cwd: str | os.PathLike[str] | None) -> str | None:
    """A directory, or None."""
    if cwd is None:
        return None
    if not isinstance(cwd, (str, os.PathLike)):
        raise TypeError(f"cwd={cwd!r}: give a path")
    path = os.fspath(cwd)
    if wrong := _what_no_system_takes(path):
        raise ValueError(f"cwd={cwd!r} contains {wrong}")
    return path


def checked_inheritance(inherit_env: bool) -> bool:
    """Whether a plugin gets this process's environment."""
    if not isinstance(inherit_env, bool):
        raise TypeError(f"inherit_env={inherit_env!r}: give True or False")
    return inherit_env


def checked_account(account: str | int | None) -> str | int | None:
    """A user or a group, by name or number."""
    is_number = isinstance(account, int) and not isinstance(account, bool) and account >= 0
    if account is None or is_number or (isinstance(account, str) and account):
        return account
    raise TypeError(f"user=, group=: {account!r} is neither a name nor a number")


def checked_versions(versions: int | Iterable[int]) -> tuple[int, ...]:
    """Versions of the application's protocol."""
    given = (versions,) if isinstance(versions, int) else tuple(versions)
    if any(not isinstance(each, int) or isinstance(each, bool) or each < 0 for each in given):
        raise TypeError(f"versions={versions!r}: give whole numbers, such as (5, 6)")
    return given


def checked_digest(digest: str | bytes | None) -> str | None:
    """A SHA-256 digest, as 64 hexadecimal digits."""
    if digest is None:
        return None
    text = digest.hex() if isinstance(digest, bytes) else digest
    if not isinstance(text, str) or not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        raise ValueError("sha256=...: give the 64 hexadecimal digits that `sha256sum FILE` prints, or the 32 bytes")
    return text.lower()


def checked_size(size: int) -> int:
    """The largest message, in bytes."""
    if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= LARGEST_MESSAGE:
        raise ValueError(f"max_message={size!r}: give a number of bytes, at most {LARGEST_MESSAGE:,}")
    return size


def checked_options(options: Options) -> tuple[tuple[str, Any], ...]:
    """GRPC's channel arguments, as pairs."""
    pairs = options.items() if isinstance(options, Mapping) else options
    try:
        found = tuple((name, value) for name, value in pairs)
    except (TypeError, ValueError):
        raise TypeError(f"options={type(options).__name__}: give a mapping, or pairs of name and value") from None
    for name, value in found:
        if not isinstance(name, str) or not isinstance(value, (int, str, bytes)):
            raise TypeError(f"options: {name!r} must be a str, and its value an int, a str or bytes")
    return found


def command_name(command: tuple[str, ...]) -> str:
    """The program, and for an interpreter its script. Never more: arguments may carry secrets."""
    program = os.path.basename(command[0])
    if re.match(r"(python|pypy)[\d.]*(\.exe)?$", program):
        rest = [word for word in command[1:3] if word != "-m"]
        if rest and not rest[0].startswith("-"):
            return os.path.basename(rest[0])
    return program


def checked_ending(wanted: bool) -> bool:
    """Return whether to end a plugin that was reattached to."""
    if not isinstance(wanted, bool):
        raise TypeError(f"end_on_close={wanted!r}: give True or False")
    return wanted


def checked_pid(pid: int | None) -> int | None:
    """Return the number of a process, or None."""
    if pid is not None and (not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 2**31):
        raise TypeError(f"pid={pid!r}: give the number of a process, or None")
    return pid


def checked_sink(sink: Callable[[bytes], object] | None) -> Callable[[bytes], object] | None:
    """Return a listener to a plugin's output, or None."""
    if sink is not None and not callable(sink):
        raise TypeError(
            f"{type(sink).__name__} cannot be called: give a function of bytes, such as file.write, or None"
        )
    return sink


def checked_stdin(stdin: Literal["null", "inherit"] | int) -> Literal["null", "inherit"] | int:
    """Return what a plugin reads from."""
    if stdin not in ("null", "inherit") and (not isinstance(stdin, int) or isinstance(stdin, bool) or stdin < 0):
        raise TypeError(f"stdin={stdin!r}: give 'null', 'inherit', or the number of a file descriptor")
    return stdin


def checked_prefork(modules: bool | Iterable[str]) -> bool | tuple[str, ...]:
    """Return whether a plugin is forked, or the modules that its template imports."""
    if isinstance(modules, bool):
        return modules
    names = () if isinstance(modules, (str, bytes)) or not isinstance(modules, Iterable) else tuple(modules)
    if not names or not all(isinstance(name, str) and all(map(str.isidentifier, name.split("."))) for name in names):
        raise TypeError(f"prefork={modules!r}: give True, or the names of modules to import beforehand, as a list")
    return names


def checked_source(metadata: Any, owner: str) -> Any:
    """Return metadata as pairs, or the function that makes it; `owner` is named in errors."""
    if any(map(inspect.iscoroutinefunction, (metadata, getattr(type(metadata), "__call__", None)))):  # noqa: B004
        raise TypeError(
            f"{owner}(metadata=...): an async function cannot be waited for at each call: have a task of yours renew "
            "the token, and give a function that returns the current one"
        )
    return metadata if callable(metadata) else checked_metadata(metadata, owner)


def checked_compression(compression: Any) -> Any:
    """Return the compression of requests, or None."""
    if compression is None or compression in ("gzip", "deflate") or type(compression).__name__ == "Compression":
        return compression
    raise TypeError(f"compression={compression!r}: give 'gzip', 'deflate', a grpc.Compression, or None")
