"""Whether the files that a template has imported are still those on disk: if not, a fork would run old code."""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    _Stamp: TypeAlias = tuple[int, int, int] | None


class Sources:
    """The files of all imported modules, and of the program itself, as they were when they were imported.

    Those of the standard library are left out: they change with the interpreter, which the host looks at.
    """

    def __init__(self) -> None:
        self._since = time.time_ns()
        self._seen: dict[str, _Stamp] = {}
        self._changed = False

    def note(self, program: str = "") -> None:
        """The imports are done. A file that was written meanwhile may have been read before or after that."""
        library = os.path.dirname(os.__file__)
        added = (os.path.join(library, "site-packages"), os.path.join(library, "dist-packages"))
        files = {getattr(module, "__file__", None) for module in tuple(sys.modules.values())} | {program}
        for file in files:
            if isinstance(file, str) and file and (not file.startswith(library) or file.startswith(added)):
                path, stamp = _found(os.path.abspath(file))
                self._seen[path] = stamp
                self._changed |= stamp is not None and self._since <= stamp[0] <= time.time_ns()

    def have_changed(self) -> bool:
        """Whether any of them was written, replaced or removed since."""
        self._changed = self._changed or any(_stamp(path) != stamp for path, stamp in self._seen.items())
        return self._changed


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _found(path: str) -> tuple[str, _Stamp]:
    """The file, or the archive that it is in."""
    stamp, archive = _stamp(path), path
    while stamp is None and os.path.dirname(archive) != archive:
        archive = os.path.dirname(archive)
        stamp = _stamp(archive) if os.path.isfile(archive) else None
    return (path, None) if stamp is None else (archive, stamp)
