"""Writes what the documentation takes from the code: defaults, errors, and the list of all public names.

    python docs/generate.py

Each stands between two comments in its page; a test fails when one is not what the code says.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from prometheus_client import CollectorRegistry

import fsm_conn
import fsm_conn.cluster.dask
import fsm_conn.telemetry
import fsm_conn.testing
from fsm_conn import blocking, checks, cluster, diagrams, inspector
from fsm_conn._util.field_docs import documented

DOCS = Path(__file__).parent
PACKAGES: dict[str, Any] = {
    "fsm_conn": fsm_conn,
    "fsm_conn.blocking": blocking,
    "fsm_conn.cluster": cluster,
    "fsm_conn.cluster.dask": cluster.dask,
    "fsm_conn.telemetry": fsm_conn.telemetry,
    "fsm_conn.diagrams": diagrams,
    "fsm_conn.inspector": inspector,
    "fsm_conn.checks": checks,
    "fsm_conn.testing": fsm_conn.testing,
}
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def sentence(text: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = inspect.cleandoc(text or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def public() -> Iterator[tuple[str, str, Any]]:
    """Every public name: the package that offers it, the name, and what it stands for."""
    for package, module in PACKAGES.items():
        for name in sorted(module.__all__):
            yield package, name, getattr(module, name)


def defaults() -> str:
    """The fields of each public class of settings: lists, which can be read on a phone as well."""
    tables = []
    for _, name, thing in public():
        if not (inspect.isclass(thing) and attrs.has(thing)) or issubclass(thing, (BaseException, fsm_conn.State)):
            continue
        fields = attrs.fields_dict(thing)
        rows = [
            f"- `{field}: {fields[field].type}{_default(fields[field])}`: {text}"
            for field, text in documented(thing)
            if field in fields and fields[field].init
        ]
        if any(" = " in row for row in rows):
            tables.append("\n".join([f"## {name}\n", *rows]))
    return "\n\n".join(tables)


def _default(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return ""
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return " = ..."
    return f" = {str(field.default) if field.default and isinstance(field.default, str) else repr(field.default)}"


def errors() -> str:
    """The public errors as a tree, each with the first sentence of its docstring."""
    found = [thing for _, _, thing in public() if inspect.isclass(thing) and issubclass(thing, fsm_conn.FsmConnError)]
    lines: list[str] = []

    def walk(error: type, depth: int) -> None:
        others = [base.__name__ for base in error.__bases__ if base not in found and base is not Exception]
        also = f" (also a {', '.join(others)})" if others else ""
        lines.append(f"{'  ' * depth}- `{error.__name__}`{also}: {sentence(error.__doc__)}")
        for each in found:
            if next((base for base in each.__bases__ if base in found), None) is error:
                walk(each, depth + 1)

    walk(fsm_conn.FsmConnError, 0)
    return "\n".join(lines)


def names() -> str:
    """A reference entry for every public name."""
    parts = ["```{eval-rst}"]
    for package, module in PACKAGES.items():
        parts += [package, "-" * len(package), "", f".. currentmodule:: {package}", ""]
        for name in sorted(module.__all__):
            thing = getattr(module, name)
            kind = "autoexception" if inspect.isclass(thing) and issubclass(thing, BaseException) else "autoclass"
            kind = kind if inspect.isclass(thing) else "autofunction" if callable(thing) else "py:data"
            parts.append(f".. {kind}:: {name}")
            parts += ["   :members:"] if kind == "autoclass" else []
            parts += ["   :show-inheritance:"] if inspect.isclass(thing) else []
            parts.append("")
    return "\n".join([*parts, "```"])


def prometheus() -> str:
    """The metrics that `PrometheusMetrics` registers, with their labels."""
    observer: Any = fsm_conn.telemetry.PrometheusMetrics(CollectorRegistry())
    found = [(each.name, each.type, each._labelnames, each.documentation) for each in observer.describe()]
    counted = [each for each in vars(observer._meters).values() if hasattr(each, "_labelnames")]
    found += [(each._name, each._type, each._labelnames, each._documentation) for each in counted]
    rows = []
    for name, kind, labels, text in sorted(found):
        total = "_total" if kind == "counter" else ""
        rows.append(f"| `{name}{total}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |")
    return "\n".join(["| metric | type | labels | |", "|---|---|---|---|", *rows])


class _Meter:
    """Notes which instruments are made, in place of an SDK's meter."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def get_meter(self, *names: object, **options: object) -> _Meter:
        return self

    def __getattr__(self, method: str) -> Any:
        def create(name: str, *callbacks: object, unit: str, description: str, **options: object) -> None:
            kind = method.removeprefix("create_").removeprefix("observable_").replace("_", "-")
            self.rows.append(f"| `{name}` | {kind} | `{unit}` | {description} |")

        return create


def opentelemetry() -> str:
    """The instruments that `OpenTelemetry` makes."""
    meter: Any = _Meter()
    fsm_conn.telemetry.OpenTelemetry(meter_provider=meter)
    return "\n".join(["| metric | kind | unit | |", "|---|---|---|---|", *meter.rows])


MAKERS = {
    "defaults": defaults,
    "errors": errors,
    "names": names,
    "prometheus": prometheus,
    "opentelemetry": opentelemetry,
}


def renewed(text: str) -> str:
    """A page with its generated parts as the code has them now."""
    return BLOCK.sub(lambda found: f"{found[1]}{MAKERS[found[2]]()}\n{found[3]}", text)


if __name__ == "__main__":
    importlib.invalidate_caches()
    for page in DOCS.rglob("*.md"):
        old = page.read_text("utf-8")
        if (new := renewed(old)) != old:
            page.write_text(new, "utf-8")
