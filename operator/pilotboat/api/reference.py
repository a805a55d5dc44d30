"""Reference pages for people, made from the same models as the CRDs.

Owns: the text of docs/crd-reference.md and docs/reasons.md. Must not know: files (tools/gen.py writes them).
"""

from __future__ import annotations

from collections.abc import Iterator

from .crd import KINDS, Kind, Schema, structural
from .runbooks import RUNBOOKS

_HEAD = "<!-- Generated from operator/pilotboat/api by `make gen`; change the models, not this page. -->\n"


def crds() -> str:
    """Every field of both resources: path, type, bounds and meaning."""
    parts = [_HEAD, "# Reference of the custom resources\n"]
    for kind in KINDS:
        parts += [f"\n## {kind.kind}\n", f"`{kind.full_name}`, short name `{kind.short}`.\n", *_tables(kind)]
    return "\n".join(parts) + "\n"


def reasons() -> str:
    """Every reason, what it means and what to do."""
    rows = [f"| `{reason}` | {book.means} | {book.do} |" for reason, book in RUNBOOKS.items()]
    head = "# Reasons: what a condition says, and what to do next\n\nA reason outside this list is a bug.\n"
    return "\n".join([_HEAD, head, "| reason | it means | do |", "| --- | --- | --- |", *rows]) + "\n"


def _tables(kind: Kind) -> Iterator[str]:
    for part, model in (("spec", kind.spec), ("status", kind.status)):
        yield f"\n### {part}\n"
        yield "| field | type | meaning |"
        yield "| --- | --- | --- |"
        for path, schema in _fields(structural(model), part):
            yield f"| `{path}` | {type_of(schema)} | {cell(schema.get('description', ''))} |"


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from _fields(child, f"{path}.{name}")
        yield from _fields(child.get("items", {}), f"{path}.{name}[]")


def type_of(schema: Schema) -> str:
    """What a value may be, in a word or two: its type with its bounds, or all it may be."""
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    kind = "quantity" if schema.get("x-kubernetes-int-or-string") else schema.get("type", "")
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None and high is None:
        return str(kind)
    above = ">" if schema.get("exclusiveMinimum") else ""
    return f"{kind} {above}{'' if low is None else low}…{'' if high is None else high}"


def cell(text: str) -> str:
    """A text as a table can hold it."""
    return text.replace("|", "\\|")
