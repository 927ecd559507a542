"""What a template imports.

If an import reads a variable that is different for each plugin, the template is not used.
"""

from __future__ import annotations

import ast
import builtins
import gc
import os
import sys
from contextlib import contextmanager, suppress
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from fsm_conn.links.process.template.forking import CannotForkError, CannotImportError
else:
    from forking import CannotForkError, CannotImportError

REFRESHED = ("pyvider.rpcplugin.config", "pyvider.rpcplugin.defaults")
"""Modules of pyvider's library whose settings are read again in each plugin. They also make defaults from the directory
for temporary files, which pyvider's servers do not use."""
PASSING_ON = {"os", "tempfile", "collections", "_collections_abc", "importlib", "_frozen_importlib", "random"} | {
    "argparse",
    "getopt",
    "optparse",
}
"""Modules that read a variable, or the arguments, on behalf of another module."""
OPERATIONS = ("getitem", "iter", "reversed", "len", "contains", "repr", "eq", "ne", "add", "mul")
READING = (*map("__{}__".format, OPERATIONS), "copy", "count", "index")
"""Methods of a list that tell what is in it."""
IMPORTED_LATER = {"cryptography.x509": "cryptography.hazmat.backends.openssl"}
"""What libraries import only when they are used. Each plugin would do so after the fork: here, those that speak TLS."""


class Imports:
    """The imports of a program, made where and as the program would make them.

    Args:
        kind: `module` or `script`; empty: no program, but modules by name.
        program: its name or path.
        directory: the program's, where modules are looked for first, unless the interpreter is told not to.
        varying: variables that are different for each plugin.

    Attributes:
        file: the file of the program; empty: there is none.
    """

    def __init__(self, kind: str, program: str, directory: str, varying: list[str]) -> None:
        self._kind, self._program, self._varying = kind, program, varying
        self._arguments: list[str] = []
        self._argued = ""
        self._keeps_arguments = True
        self._watched: list[tuple[Arguments, list[str]]] = []
        self.file = ""
        if getattr(sys.flags, "safe_path", sys.flags.isolated):
            del sys.path[0]
        else:
            sys.path[0] = directory
            check_names(directory)
        sys.argv = ["-m" if kind == "module" else program]
        ours, main = vars(sys.modules["__main__"]), ModuleType("__main__")
        vars(main).update(__builtins__=builtins)
        if "__annotations__" in ours:  # as up to Python 3.13
            vars(main).update(__annotations__={})
        sys.modules["__main__"] = main

    def make(self, command: list[str], arguments: list[str], modules: list[str]) -> None:
        """Import modules by name, or else what the program itself imports first.

        Args:
            command: the whole command of the first plugin.
            arguments: those of its program.
            modules: to be imported.

        Raises:
            CannotImportError: the modules cannot be imported.
            CannotForkError: they read a variable that is different for each plugin, or change the arguments.
        """
        self._arguments = arguments
        read: dict[str, str] = {}
        try:
            with watched(self._varying, read), self._given(command):
                if self._kind:
                    self.file = run_leading(self._kind, self._program)
                for name in modules:
                    __import__(name)
                import_later()
            refresh(self._varying)
        except BaseException as error:
            missing = error.name if isinstance(error, ImportError) else None
            what = f"{type(error).__name__}: {missing}" if missing else type(error).__name__
            raise CannotImportError(f"what it imports cannot be imported beforehand ({what})") from None
        if not self._keeps_arguments:
            raise CannotForkError("what it imports changes the arguments")
        for variable, module in read.items():
            raise CannotForkError(f"what it imports ({module}) reads {variable}, which is different for each plugin")

    def check_arguments(self, arguments: list[str]) -> None:
        """Refuse a fork whose arguments are others than those that an import has read."""
        if self._argued and arguments != self._arguments:
            raise CannotForkError(f"what it imports ({self._argued}) reads the arguments of another plugin")

    def renew_arguments(self) -> None:
        """In a plugin: renew the arguments where an object holds them, such as one that was made of `sys.argv`."""
        for watched, plain in self._watched:
            watched[:] = plain

    @contextmanager
    def _given(self, command: list[str]) -> Iterator[None]:
        """Give the imports the arguments, and note which module reads or changes them."""
        argv = sys.argv = Arguments([*sys.argv, *self._arguments])
        both = argv, Arguments(command)
        sys.orig_argv = both[1]
        try:
            yield
        finally:
            self._argued = both[0].reader or both[1].reader
            first, *rest = list.copy(argv) or [None]
            is_first = first in ("-m" if self._kind == "module" else self._program, self.file)
            self._keeps_arguments = sys.argv is argv and is_first and rest == self._arguments
            self._watched = [(each, each.replaced()) for each in both]


class Arguments(list):  # type: ignore[type-arg]  # which is no class of types before it is run
    """`sys.argv`, or `sys.orig_argv`, which notes who reads more of it than the first word."""

    reader = ""

    def __reduce__(self) -> Any:
        return list, ([*self],)

    def replaced(self) -> list[str]:
        """Put a plain list in its place, also in a module that has said `from sys import argv`, and return that."""
        plain = list.copy(self)
        for holder in gc.get_referrers(self):
            if isinstance(holder, dict):
                holder.update({name: plain for name, value in holder.items() if value is self})
        return plain


def _noting(name: str) -> Callable[..., Any]:
    read = getattr(list, name)

    def note(self: Arguments, *given: Any) -> Any:
        if name != "__getitem__" or given != (0,):
            self.reader = self.reader or _reader(sys._getframe(1)) or "?"
        return read(self, *given)

    return note


for _name in READING:
    setattr(Arguments, _name, _noting(_name))


@contextmanager
def watched(varying: list[str], read: dict[str, str]) -> Iterator[None]:
    """Note which of some variables are read meanwhile, and by which module, except where `refresh` reads them again."""

    class Watched(os._Environ):  # type: ignore[type-arg]  # which is no class of types before it is run
        def __getitem__(self, name: Any) -> Any:
            told = os.fsdecode(name)
            if told in varying and (reader := _reader(sys._getframe(1))):
                read.setdefault(told, reader)
            return super().__getitem__(name)

    plain, both = type(os.environ), (os.environ, os.environb)
    for each in both:
        each.__class__ = Watched
    try:
        yield
    finally:
        for each in both:
            each.__class__ = plain


def _reader(frame: FrameType | None) -> str:
    """The module that reads; empty: one that `refresh` handles."""
    names = []
    while frame is not None:
        names.append(str(frame.f_globals.get("__name__")))
        frame = frame.f_back
    if any(name.startswith(REFRESHED) for name in names):
        return ""
    return next((name for name in names if name.partition(".")[0] not in PASSING_ON), "?")


def check_names(directory: str) -> None:
    """Refuse a program whose directory has a module of a name that the template has imported from elsewhere."""
    from importlib.machinery import PathFinder

    for name, module in [*sys.modules.items()]:
        ours = getattr(getattr(module, "__spec__", None), "origin", None)
        if name != "__main__" and "." not in name and ours not in (None, "built-in", "frozen"):
            found = PathFinder.find_spec(name, [directory])
            if found is not None and found.origin not in (None, ours):
                raise CannotForkError(f"its directory has a module {name} of its own, as the template has another one")


def import_later() -> None:
    """Import what the libraries that are imported by now import only when they are used."""
    for library, later in IMPORTED_LATER.items():
        if library in sys.modules:
            with suppress(ImportError):
                __import__(later)


def refresh(varying: list[str]) -> None:
    """Make pyvider's library, which reads its settings at its import, read again those that differ."""
    if module := sys.modules.get("pyvider.rpcplugin.config"):
        settings = module.rpcplugin_config
        anew = type(settings).from_env()
        for field in type(settings).__attrs_attrs__:
            if field.metadata.get("env_var") in varying:
                setattr(settings, field.name, getattr(anew, field.name))


def run_leading(kind: str, program: str) -> str:
    """Run the statements at the beginning of a program that only import, or set variables of the environment.

    Returns:
        The file of the program.
    """
    name, main, source = _source(kind, program)
    path = main["__file__"]
    was_imported = name in sys.modules
    if kind == "module":
        sys.argv[0] = path
    vars(sys.modules["__main__"]).update(main)
    body = list(leading(ast.parse(source, path).body))
    exec(compile(ast.Module(body, []), path, "exec", dont_inherit=True), {**main, "__name__": name})  # noqa: S102 - it is the plugin's own
    if kind == "module" and name in sys.modules and not was_imported:
        import warnings  # which warn of a program that was imported before it runs, as it is here by its own imports

        warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
    return str(path)


def main_of_script(whole: str) -> dict[str, Any]:
    """The attributes of `__main__` that the interpreter sets for a script."""
    from importlib.machinery import SourceFileLoader

    return {"__file__": whole, **_cached(None), "__loader__": SourceFileLoader("__main__", whole)}


def _cached(path: str | None) -> dict[str, str | None]:
    """The file of a module's bytecode, which is an attribute of the module up to Python 3.14."""
    return {"__cached__": path} if sys.version_info < (3, 15) else {}


def _source(kind: str, program: str) -> tuple[str, dict[str, Any], bytes]:
    """The name of a program's module, the attributes of its `__main__`, and its source."""
    if kind == "script":
        with open(program, "rb") as file:
            return "__main__", main_of_script(os.path.abspath(program)), file.read()
    from importlib.util import find_spec

    spec = find_spec(program)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(program + ".__main__")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(name=program)
    main = {"__file__": spec.origin, **_cached(spec.cached), "__loader__": spec.loader}
    with open(spec.origin, "rb") as file:
        return spec.name, {**main, "__package__": spec.parent, "__spec__": spec}, file.read()


def leading(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of `body` that import, up to the first that does more than define names.

    Statements that set variables of the environment to constants are included: libraries read them when imported.
    """
    for node in body:
        if _imports(node) or _sets_environment(node):
            yield node
        elif not _only_defines(node):
            return


def _imports(node: ast.stmt) -> bool:
    if isinstance(node, ast.Try):
        rest = [*node.orelse, *node.finalbody, *(each for handler in node.handlers for each in handler.body)]
        return all(map(_imports, node.body)) and all(_imports(each) or _is_plain(each) for each in rest)
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _is_plain(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant))


def _only_defines(node: ast.stmt) -> bool:
    """Whether a statement can be left out, since no import after it could depend on it."""
    if isinstance(node, ast.Assign) and not all(isinstance(target, (ast.Name, ast.Tuple)) for target in node.targets):
        return False
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        calls = [ast.unparse(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)]
        return set(calls) <= {"logging.getLogger"}
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING") and not node.orelse
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.ClassDef):
        return not (node.bases or node.keywords or node.decorator_list)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return not node.decorator_list
    return isinstance(node, ast.Pass)


def _sets_environment(node: ast.stmt) -> bool:
    """Whether it is `os.environ["A"] = "b"` or `os.environ.setdefault("A", "b")`."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
        return all(
            isinstance(target, ast.Subscript)
            and ast.unparse(target.value) == "os.environ"
            and isinstance(target.slice, ast.Constant)
            for target in node.targets
        )
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value
        given = all(isinstance(argument, ast.Constant) for argument in call.args)
        return ast.unparse(call.func) == "os.environ.setdefault" and given and not call.keywords
    return False
