"""Which examples still have a token to learn from, once they are cut at maxLength: the others are left out.

Owns: leaving out what the library leaves in, and the count. Must not know: tokenizers, the trainer.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

MASKED = -100
"""The library's label of a token that is read and not learned."""


def leave_out(rows: Any) -> tuple[Any, int]:
    """The rows that teach something, and how many examples those are: the library does this, but not where it packs.

    A packed row would be a step that learns nothing: an example that is cut fills its row alone."""
    if "seq_lengths" not in rows.column_names:
        return rows, len(rows)
    teaching = rows.filter(lambda row: _teaches(row["labels"]))
    return teaching, sum(_examples(row["labels"], row["seq_lengths"]) for row in teaching)


def _examples(labels: list[int], lengths: list[int]) -> int:
    """Of the examples packed into a row, those that teach something."""
    return sum(_teaches(labels[begin:end]) for begin, end in pairwise(accumulate(lengths, initial=0)))


def _teaches(labels: list[int]) -> bool:
    return any(label != MASKED for label in labels)
