"""How large a regular expression is for llama.cpp, which writes each of its repetitions out.

Pure. It need not understand all of the syntax: what llama.cpp does not know it refuses by itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TOKEN = re.compile(r"\\.|\((?:\?[:=!])?|\[(?:\\.|[^\]\\])*\]?|\{(\d*)(,?)(\d*)\}|.", re.DOTALL)
LARGE = 10**6
"""In place of a number that is larger, or without end: more than any bound."""


@dataclass
class Size:
    """Of a pattern, or of a part of it."""

    characters: int = 0
    """With each repetition written out."""
    choices: int = 0
    """Places where more or less may follow, with each repetition written out."""
    alternatives: int = 0
    """With each repetition written out: each may be one that another is too."""
    depth: int = 0
    """Of groups."""
    shortest: int = 0
    """Characters of the shortest text, in the alternative that is being read."""
    shorter: int = LARGE
    """The same of the alternatives before."""

    def times(self, count: int) -> Size:
        """Of as many at most, one after another. Where each may be nothing, any of them may be the next."""
        counts = (self.characters, self.choices, self.alternatives)
        characters, choices, alternatives = (min(LARGE, each * count) for each in counts)
        choices = characters if not self.shortest and count > 1 else choices
        return Size(characters, choices, alternatives, self.depth, self.shortest)

    def add(self, other: Size) -> None:
        """What follows this."""
        self.characters += other.characters
        self.choices += other.choices
        self.alternatives += other.alternatives
        self.depth = max(self.depth, other.depth)
        self.shortest += other.shortest

    def fork(self) -> None:
        """Another alternative begins."""
        self.alternatives += 1
        self.shorter, self.shortest = min(self.shorter, self.shortest), 0

    def close(self) -> Size:
        """The whole as a group."""
        shortest = min(self.shorter, self.shortest)
        return Size(self.characters, self.choices, self.alternatives, self.depth + 1, shortest)


def size(pattern: str) -> Size:
    """Whatever else is wrong with the pattern. Raises ValueError for a repetition that is none."""
    groups, last = [Size()], Size()
    for token in TOKEN.finditer(pattern):
        text = token[0]
        if text.startswith("("):
            groups[-1].add(last)
            groups.append(Size())
            last = Size()
        elif text == ")" and len(groups) > 1:
            whole = groups.pop()
            whole.add(last)
            last = whole.close()
        elif text in ("?", "*", "+"):
            last.choices += 1
            last.shortest *= text == "+"
        elif token[2] is not None:
            low, high = (int(end[:7] or default) for end, default in ((token[1], 0), (token[3], 0)))
            if token[3] and low > high:
                raise ValueError(f"has a pattern with {text[:24]}, which ends before it begins.")
            last = last.times(min(LARGE, max(low, high, 1)))
            last.choices += bool(token[2])
            last.shortest *= low
        elif text == "|":
            groups[-1].add(last)
            groups[-1].fork()
            last = Size()
        else:
            groups[-1].add(last)
            last = Size(characters=1, shortest=1)
    groups[-1].add(last)
    while len(groups) > 1:  # one that nobody closes
        inner = groups.pop()
        groups[-1].add(inner.close())
    return groups[0]
