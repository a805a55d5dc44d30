"""What a JSON schema may ask of llama.cpp, which makes a grammar of it: one that is too much ends or stops everybody.

Owns these bounds. llama.cpp writes what `allOf` refers to in place, for ever where that comes back to itself, and its
stack overflows; a plain `$ref` is a rule of its own and may. A grammar is tried on the engine's own thread, for each of
its alternatives, and no cancelling reaches it there. Must not know: requests, llama.cpp.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

from . import ambiguity, patterns

MAX_DEPTH = 64
"""Of a response format, and of a schema with what it refers to: llama.cpp reads both recursively."""
MAX_CHARACTERS = 64 << 10
MAX_NAME = 256
"""Characters of a property's name, of a `$ref` and of a key: expressions that recurse by the character read them."""
MAX_PARTS = 300
"""Schemas, values of `enum` and alternatives of a `pattern`: with 300 a token takes some 0.3 s on one busy core."""
MAX_PATTERN = 2000
"""Characters of a `pattern`, each repetition written out: `(a{0,200}){0,200}` stops everybody for minutes."""
MAX_CHOICES = 30
"""Places of a `pattern` where more or less may follow, so too: 50 of `[a-z]*` take a second for each token."""

LITERAL = frozenset({"const", "default", "examples", "required", "title", "description", "type", "enum"})
"""Keywords that hold no schema."""
NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
"""Keywords that hold schemas by names, which are no keywords."""
DEFINITIONS = frozenset({"$defs", "definitions"})
"""Read where something refers to them."""


class TooMuch(ValueError):
    """What is wrong with a schema, as the end of a sentence that names the field."""


def check(form: dict[str, Any]) -> None:
    """A `response_format` as llama.cpp reads it, which takes a schema beside `json_object` too. Raises TooMuch."""
    for depth, level in enumerate(_levels(form)):
        if depth > MAX_DEPTH:
            raise TooMuch(f"is nested more than {MAX_DEPTH} deep.")
        if not all(map(_readable, level)):
            raise TooMuch("has a number that is none, or is beyond all that a double can hold.")
    inner = form.get("json_schema")
    for schema in (form.get("schema"), inner.get("schema") if isinstance(inner, dict) else None):
        if schema is not None:
            if len(json.dumps(schema, ensure_ascii=False)) > MAX_CHARACTERS:
                raise TooMuch(f"has a schema of more than {MAX_CHARACTERS} characters.")
            _Reader(schema).read(schema)


def _levels(value: Any) -> Iterator[list[Any]]:
    """A JSON value, what is in it, what is in that: recursion is what is to be protected."""
    level = [value]
    while level:
        yield level
        level = [inner for outer in level for inner in _inside(outer)]


def _readable(value: Any) -> bool:
    """Whether C++ can read it: Python reads NaN, and whole numbers of any size."""
    return not isinstance(value, int | float) or abs(value) <= sys.float_info.max


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


class _Reader:
    """Follows one schema as llama.cpp does."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._parts = 0
        self._looks = ambiguity.Looks()
        self._rules: set[str] = set()
        """References that are rules of their own: read once."""

    def read(self, schema: Any, within: tuple[str, ...] = (), depth: int = 0, composed: bool = False) -> None:
        """`within`: references that are written in place around this schema; `composed`: it is a part of `allOf`."""
        if isinstance(schema, list):
            for part in schema:
                self.read(part, within, depth, composed)
        if not isinstance(schema, dict):
            return
        if depth > MAX_DEPTH:
            raise TooMuch(f"is nested more than {MAX_DEPTH} deep, with what its schema refers to.")
        _check_bounds(schema)
        self._count(1 + _alternatives(schema))
        if isinstance(pattern := schema.get("pattern"), str) and ambiguity.exponential(pattern, self._looks):
            raise TooMuch("has a pattern that takes one text in very many ways: let what may repeat begin differently.")
        if "$ref" in schema:
            self._refer(schema["$ref"], within, depth, composed)
        kinds = schema.get("type")
        for _ in kinds if isinstance(kinds, list) else "1":  # what is within is written for each of them
            for name, inner, in_place in _inner(schema, composed):
                _check_name(name)
                self.read(inner, within, depth + 1, in_place)

    def _refer(self, ref: Any, within: tuple[str, ...], depth: int, composed: bool) -> None:
        if not isinstance(ref, str):
            raise TooMuch("has a $ref that is no string.")
        _check_name(ref)
        if ref in within:
            raise TooMuch(f"has an allOf whose $ref comes back to itself, {ref}: use anyOf, or the $ref alone.")
        if composed:
            self.read(self._target(ref), (*within, ref), depth + 1, composed)
        elif ref not in self._rules:
            self._rules.add(ref)
            self.read(self._target(ref), (), depth + 1)

    def _target(self, ref: str) -> Any:
        """What a JSON pointer into this schema points at. llama.cpp reads `~1` as it stands: nobody shall guess."""
        anchor, *path = ref.split("/")
        if anchor != "#" or "~" in ref:
            raise TooMuch(f"has a $ref that is no plain place in its schema, as #/$defs/Name is: {ref}")
        found = self._root
        for step in path:
            if isinstance(found, dict) and step in found:
                found = found[step]
            elif isinstance(found, list) and step in map(str, range(len(found))):
                found = found[int(step)]
            else:
                raise TooMuch(f"has a $ref to what is not there: {ref}")
        return found

    def _count(self, parts: int) -> None:
        self._parts += parts
        if self._parts > MAX_PARTS:
            raise TooMuch(
                f"has a schema of more than {MAX_PARTS} parts: properties and other schemas (in allOf each time that "
                "they are referred to), values of enum, alternatives of a pattern."
            )


def _inner(schema: dict[str, Any], composed: bool) -> Iterator[tuple[str, Any, bool]]:
    """The schemas within, by their names, and whether they are parts of an `allOf`."""
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            yield from ((name, inner, False) for name, inner in value.items())
        elif key not in LITERAL and key not in DEFINITIONS:
            yield key, value, key == "allOf" or (composed and key in ("anyOf", "oneOf"))


def _alternatives(schema: dict[str, Any]) -> int:
    """Of the types, the values and the pattern that stand here."""
    listed = sum(len(values) for key in ("type", "enum") if isinstance(values := schema.get(key), list))
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        size = patterns.size(pattern)
        if size.characters > MAX_PATTERN:
            raise TooMuch(f"has a pattern of more than {MAX_PATTERN} characters, with each repetition written out.")
        if size.choices > MAX_CHOICES:
            raise TooMuch(f"has a pattern of more than {MAX_CHOICES} choices (? * + {{m,n}}), with each repetition so.")
        if size.depth > MAX_DEPTH:
            raise TooMuch(f"has a pattern whose groups are nested more than {MAX_DEPTH} deep.")
        listed += size.alternatives
    return listed


def _check_bounds(schema: dict[str, Any]) -> None:
    for what in ("Length", "Items"):
        low, high = schema.get(f"min{what}", 0), schema.get(f"max{what}", math.inf)
        if isinstance(low, int | float) and isinstance(high, int | float) and not 0 <= low <= high:
            raise TooMuch(f"has a schema whose min{what} and max{what} leave nothing.")


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME:
        raise TooMuch(f"has a name or a $ref of more than {MAX_NAME} characters: {name[:24]}...")
