"""Reads the log lines of Go plugins, written by hclog as JSON or as text; any other line is just a line.

Source: go-hclog's `intlogger.go`, and `logStderr` and `parseJSON` of go-plugin's `client.go`.

Rule that holds here: any line gives an `Entry`, and nothing is shown that was not in the line. A line with deeper
nesting than a logger's fields have is treated as text, because code that handles a field may recurse.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from fsm_conn.links.process.output import Entry, Heard, plugin_logger
from fsm_conn.links.target import Plugin, Reattach

__all__ = ["TRACE", "LineReader", "heard_of"]

# Without it, Python prints a plugin's warnings on stderr where no logging is set up.
plugin_logger.addHandler(logging.NullHandler())

TRACE = 5
"""The level of hclog's TRACE, below `logging.DEBUG`."""
DEEPEST = 32
"""Levels of nested lists and objects that are accepted as fields."""
_LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}
# The time comes first, unless the plugin turns it off; go-plugin's own host looks only for a level at the beginning.
_TEXT = re.compile(r"(?:\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|[+-]\d\d:?\d\d)?\s+)?\[(TRACE|DEBUG|INFO|WARN|ERROR)\]")
_CUT = re.compile(r'\{(?:"@caller":"(?:[^"\\]|\\.)*",)?"@level":"(trace|debug|info|warn|error)",')
"""JSON of hclog's that was too long to be read whole; it begins with where it was written, if at all, and its level."""
_CRASHES = ("panic: ", "fatal error: ")
"""How Go's runtime begins to tell why it ends a program; a stack trace follows."""


class LineReader:
    """Reads the lines of one plugin. When Go's runtime ends it, all that follows is an error."""

    def __init__(self) -> None:
        self._crashes = False

    def __call__(self, line: str) -> Entry:
        """What a line says: its level, and also its message and fields if it is hclog's JSON."""
        if line.startswith("{") and '"@message"' in line:
            found = _of_json(line)
            if found is not None:
                return found
        match = _TEXT.match(line) or _CUT.match(line)
        if match:
            return Entry(line, _LEVELS[match[1].lower()])
        self._crashes = self._crashes or line.startswith(_CRASHES)
        return Entry(line, logging.ERROR) if self._crashes else Entry(line)


def heard_of(target: Plugin | Reattach) -> Heard:
    """Who gets what a plugin prints, and how its lines are read."""
    sinks = {"stdout": target.stdout, "stderr": target.stderr}
    return Heard(LineReader(), sinks, logging.ERROR) if target.log_levels else Heard(sinks=sinks)


def _of_json(line: str) -> Entry | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not isinstance(said.get("@message"), str) or _is_deeper(said, DEEPEST):
        return None
    level = _LEVELS.get(str(said.get("@level", "")).lower(), logging.INFO)
    fields = {name: value for name, value in said.items() if not name.startswith("@")}
    module = str(said.get("@module", ""))
    return Entry(_told(said["@message"], module, fields), level, module, fields)


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(each, levels - 1) for each in inner)


def _told(message: str, module: str, fields: dict[str, Any]) -> str:
    """The entry as hclog writes it as text."""
    values = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in fields.items()]
    told = f"{module}: {message}" if module else message
    return " ".join([f"{told}:", *values]) if values else told
