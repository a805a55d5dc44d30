"""Questions and answers about Kubernetes fields, made from an API server's OpenAPI document: always the same ones.

The description of each field answers a question; the document may be version 2 (`/openapi/v2`) or 3
(`/openapi/v3/apis/apps/v1`). Standard library only.

    kubectl get --raw /openapi/v2 | python3 -m tools.corpus - FOLDER        # writes train.jsonl and eval.jsonl

Owns: choosing, cleaning and wording. Must not know: where the document comes from, who trains on it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SHORTEST, LONGEST = 25, 320
"""Characters of an answer: shorter ones say nothing, longer ones are cut after a sentence."""

DEPTH = 3
"""Names in a path below a kind, such as spec.strategy.type; deeper fields are asked for by their type."""

MAX_BYTES = 900_000
"""Of train.jsonl, so that a ConfigMap (1 MiB) can carry it."""

HELD_BACK = 20
"""One pair in so many is for judging, never for training."""

_WORDINGS = (
    "What does the field {path} of a {kind} mean?",
    "In Kubernetes, what is {path} in a {kind}?",
    "Explain the {kind} field {path}.",
    "What is {path} of a {kind} for?",
)
_LINK = re.compile(
    r"\s*\(?(?:More info|Read more|See also|See|More information)[^.]*?:?\s*https?://\S+\)?", re.IGNORECASE
)
_URL = re.compile(r"\s*\(?https?://\S+\)?")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'`])")
_NOT_PROSE = re.compile(r"^(deprecated|alpha|this field is (alpha|beta))", re.IGNORECASE)


@dataclass(frozen=True)
class Pair:
    """One question and its answer."""

    question: str
    answer: str

    def line(self) -> str:
        """As a line of JSON in the `messages` format."""
        messages = [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]
        return json.dumps({"messages": messages}, ensure_ascii=False)


def write(document: Mapping[str, Any], folder: Path, max_bytes: int = MAX_BYTES) -> int:
    """Write train.jsonl and eval.jsonl into the folder. Returns the number of pairs to train on."""
    train, held_back = split(pairs(document))
    folder.mkdir(parents=True, exist_ok=True)
    chosen = _within(train, max_bytes)
    for name, part in (("train.jsonl", chosen), ("eval.jsonl", held_back)):
        (folder / name).write_text("".join(f"{pair.line()}\n" for pair in part), "utf-8")
    return len(chosen)


def pairs(document: Mapping[str, Any]) -> list[Pair]:
    """All pairs of a document: kinds first, by name, then types; no question and no answer twice."""
    schemas = _schemas(document)
    found: dict[str, Pair] = {}
    questions: set[str] = set()
    for kind, path, description in (*_of_kinds(schemas), *_of_types(schemas)):
        answer = clean(description)
        question = _question(kind, path)
        if len(answer) >= SHORTEST and answer.casefold() not in found and question not in questions:
            found[answer.casefold()] = Pair(question, answer)
            questions.add(question)
    return list(found.values())


def split(found: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    """To train on, and held back: decided by the question alone, so that a new release moves no old pair across."""
    held_back = [pair for pair in found if _number(pair.question) % HELD_BACK == 0]
    return [pair for pair in found if pair not in set(held_back)], held_back


def clean(description: str) -> str:
    """A description as an answer: one line, no links, whole sentences, not too long."""
    text = " ".join(_URL.sub("", _LINK.sub("", description)).split())
    kept = ""
    for sentence in _SENTENCE.split(text):
        if kept and len(kept) + 1 + len(sentence) > LONGEST:
            break
        if not _NOT_PROSE.match(sentence):
            kept = f"{kept} {sentence}".strip()
    kept = kept.rstrip(" :;,(")
    if len(kept) > LONGEST or not kept:
        return ""
    return kept if kept[-1] in ".!?" else f"{kept}."


def _schemas(document: Mapping[str, Any]) -> Mapping[str, Any]:
    schemas = document.get("definitions") or document.get("components", {}).get("schemas")
    if not isinstance(schemas, Mapping) or not schemas:
        raise ValueError("no OpenAPI document: it has neither definitions nor components.schemas")
    return schemas


def _of_kinds(schemas: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Fields by their path from a kind; the stable version of a kind speaks for all."""
    kinds: dict[str, str] = {}
    for name in sorted(schemas, key=lambda name: (_unstable(name), name)):
        for kind in schemas[name].get("x-kubernetes-group-version-kind", []):
            if not kind["kind"].endswith(("List", "Options", "Status", "Event")):
                kinds.setdefault(kind["kind"], name)
    for kind, name in sorted(kinds.items()):
        for path, description in _fields(schemas, name, (), DEPTH):
            yield kind, path, description


def _fields(schemas: Mapping[str, Any], name: str, above: tuple[str, ...], depth: int) -> Iterator[tuple[str, str]]:
    for field, schema in sorted(schemas.get(name, {}).get("properties", {}).items()):
        if not above and field in ("apiVersion", "kind", "metadata"):
            continue
        path = (*above, field)
        yield ".".join(path), _description(schemas, schema)
        target = _target(schema)
        if target and depth > 1:
            yield from _fields(schemas, target, path, depth - 1)


def _of_types(schemas: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Every field by the type it belongs to, for those too deep to have a path."""
    for name in sorted(schemas, key=lambda name: (_unstable(name), name)):
        for field, schema in sorted(schemas[name].get("properties", {}).items()):
            if field not in ("apiVersion", "kind", "metadata"):
                yield name.rpartition(".")[2], field, _description(schemas, schema)


def _description(schemas: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    return str(schema.get("description") or schemas.get(_target(schema) or "", {}).get("description") or "")


def _target(schema: Mapping[str, Any]) -> str | None:
    """The schema that a field refers to; version 3 wraps the reference, and lists have it at their items."""
    for holder in (
        schema,
        *schema.get("allOf", []),
        schema.get("items", {}),
        *schema.get("items", {}).get("allOf", []),
    ):
        if "$ref" in holder:
            return str(holder["$ref"]).rpartition("/")[2]
    return None


def _unstable(name: str) -> bool:
    return bool(re.search(r"\.v\d+(alpha|beta)\d+\.", name))


def _question(kind: str, path: str) -> str:
    """The first wording for half of all fields, so that one way to ask always works; the others for the rest."""
    number = _number(f"{kind} {path}")
    wording = _WORDINGS[0] if number % 2 else _WORDINGS[number // 2 % len(_WORDINGS)]
    article = wording.replace("a {kind}", "an {kind}") if kind[0] in "AEIOU" else wording
    return article.format(kind=kind, path=path)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _within(found: list[Pair], max_bytes: int) -> list[Pair]:
    """As many as fit, from the front: kinds come before types."""
    size, kept = 0, []
    for pair in found:
        size += len(pair.line().encode()) + 1
        if size > max_bytes:
            break
        kept.append(pair)
    return kept


def main() -> None:
    """Read a document from a file or from standard input and write the corpus."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("document", help="file with the OpenAPI document as JSON, or - for standard input")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--max-bytes", type=int, default=MAX_BYTES)
    options = arguments.parse_args()
    text = sys.stdin.read() if options.document == "-" else Path(options.document).read_text("utf-8")
    count = write(json.loads(text), options.folder, options.max_bytes)
    print(f"{count} pairs to train on in {options.folder}")


if __name__ == "__main__":
    main()
