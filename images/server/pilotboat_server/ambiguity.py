r"""Whether a regular expression can take one text in very many ways.

Pure. llama.cpp tries each token of a vocabulary by every way in which the pattern may take it, letter by letter, and
gives up none that meet again: `([a-z]|[a-z])+` has two for each letter, 65,536 for a token of sixteen. Ways are paths
over the positions of the pattern's letters (Glushkov's automaton), for llama.cpp tells those apart and no others. There
are exponentially many where one position leads back to itself by two paths with the same text (Weber and Seidl 1991),
and twice as many for each place in a row, outside of loops, where two paths part that meet again.

It need not understand all of the syntax: what llama.cpp does not know it refuses by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .patterns import TOKEN

MAX_FORKS = 4
"""In a row: sixteen ways."""
LAST = 0x10FFFF
CLASSES = {
    "d": [(48, 57)],
    "w": [(48, 57), (65, 90), (95, 95), (97, 122)],
    "s": [(9, 13), (32, 32), (160, 160)],
}
CONTROLS = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11, "0": 0}

Ranges = list[tuple[int, int]]
END: Ranges = [(-1, -1)]
"""Before and after all letters."""
Pair = tuple[int, int]


@dataclass
class Looks:
    """At two positions at once, that may be made for all patterns of a caller: some 50 ms. What needs more is too much
    as well."""

    left: int = 100_000


class _TooMany(Exception):
    """There is too much to look at."""


@dataclass
class _Part:
    """Of a pattern: what may be its first and last letter, and whether it may be empty."""

    empty: bool = True
    first: set[int] = field(default_factory=set)
    last: set[int] = field(default_factory=set)


@dataclass
class _Automaton:
    looks: Looks
    letters: list[Ranges] = field(default_factory=list)
    follow: list[set[int]] = field(default_factory=list)
    known: dict[Pair, list[Pair]] = field(default_factory=dict)

    def letter(self, ranges: Ranges) -> _Part:
        self.letters.append(ranges)
        self.follow.append(set())
        return _Part(False, {len(self.letters) - 1}, {len(self.letters) - 1})

    def joined(self, one: _Part, other: _Part) -> _Part:
        self._link(one.last, other.first)
        first = one.first | other.first if one.empty else one.first
        last = one.last | other.last if other.empty else other.last
        return _Part(one.empty and other.empty, first, last)

    def repeated(self, part: _Part) -> _Part:
        self._link(part.last, part.first)
        return part

    def _link(self, before: Iterable[int], after: set[int]) -> None:
        for at in before:
            self.follow[at] = self.follow[at] | after

    def after(self, pair: Pair) -> list[Pair]:
        """Where both may be after one letter more. Raises _TooMany where there was too much to look at."""
        if pair not in self.known:
            self.looks.left -= len(self.follow[pair[0]]) * len(self.follow[pair[1]])
            if self.looks.left < 0:
                raise _TooMany
            both = ((one, other) for one in self.follow[pair[0]] for other in self.follow[pair[1]])
            self.known[pair] = [each for each in both if self._overlap(*each)]
        return self.known[pair]

    def _overlap(self, one: int, other: int) -> bool:
        return any(a <= d and c <= b for a, b in self.letters[one] for c, d in self.letters[other])


def exponential(pattern: str, looks: Looks) -> bool:
    """Whether it has, or may have, so many ways that nobody should try them."""
    automaton = _Automaton(looks)
    whole = _read(pattern, automaton)
    automaton.joined(whole, automaton.letter(END))
    automaton.joined(automaton.letter(END), whole)
    try:
        meets = [_meets(automaton, at) for at in range(len(automaton.follow))]
    except _TooMany:
        return True
    loops = _components(automaton.follow)
    of = {at: number for number, loop in enumerate(loops) for at in loop}
    if any(of[meeting] == of[at] for at, found in enumerate(meets) for meeting in found):  # it leads back
        return True
    forks = [_doubles(automaton, at) if found else 0 for at, found in enumerate(meets)]
    return _longest(automaton, forks, loops, of) > MAX_FORKS


def _read(pattern: str, made: _Automaton) -> _Part:
    """A repetition of a number of times is taken for a loop: there may be as many."""
    open_groups: list[tuple[list[_Part], _Part]] = []
    ways: list[_Part] = []
    before, last = _Part(), _Part()
    for found in TOKEN.finditer(pattern):
        text = found[0]
        if text.startswith("("):
            open_groups.append((ways, made.joined(before, last)))
            ways, before, last = [], _Part(), _Part()
        elif text == ")" and open_groups:
            group = _either([*ways, made.joined(before, last)])
            ways, before = open_groups.pop()
            last = group
        elif text == "|":
            ways.append(made.joined(before, last))
            before, last = _Part(), _Part()
        elif text in ("?", "*", "+") or (text[0] == "{" and len(text) > 1):
            last = _repeated(made, last, text)
        elif text not in ("^", "$"):
            before, last = made.joined(before, last), made.letter(_ranges(text))
    while open_groups:  # one that nobody closes
        last = _either([*ways, made.joined(before, last)])
        ways, before = open_groups.pop()
    return _either([*ways, made.joined(before, last)])


def _either(ways: list[_Part]) -> _Part:
    return _Part(
        any(way.empty for way in ways),
        set().union(*(way.first for way in ways)),
        set().union(*(way.last for way in ways)),
    )


def _repeated(made: _Automaton, part: _Part, how: str) -> _Part:
    numbers = [int(each[:7]) for each in re.findall(r"\d+", how)]
    low = numbers[0] if numbers and not how.startswith("{,") else 0
    once = how == "?" or (how[0] == "{" and bool(numbers) and max(numbers) <= 1 and not how.endswith(",}"))
    made_of = part if once else made.repeated(part)
    return _Part(part.empty or (how != "+" and not low), made_of.first, made_of.last)


def _ranges(text: str) -> Ranges:
    """The letters that an atom takes; more of them where it is not known."""
    if text == ".":
        return [(0, LAST)]
    if text.startswith("\\") and len(text) == 2:
        return _escaped(text[1])
    if not text.startswith("["):
        return [(ord(text[0]), ord(text[0]))]
    inner = text[1:].removesuffix("]")
    negated = inner.startswith("^")
    found = list(_members(inner.removeprefix("^")))
    return _others(found) if negated else found


def _members(inner: str) -> Iterator[tuple[int, int]]:
    items = re.findall(r"\\.|.", inner, re.DOTALL)
    at = 0
    while at < len(items):
        these = _escaped(items[at][1]) if len(items[at]) == 2 else [(ord(items[at]), ord(items[at]))]
        if at + 2 < len(items) and items[at + 1] == "-":
            end = items[at + 2]
            yield (these[0][0], max(these[0][0], ord(end[-1])))
            at += 3
        else:
            yield from these
            at += 1


def _escaped(letter: str) -> Ranges:
    if letter.lower() in CLASSES:
        return CLASSES[letter] if letter in CLASSES else _others(CLASSES[letter.lower()])
    if letter in "ux":  # the number that follows is read as letters of its own: more positions, not fewer ways
        return [(0, LAST)]
    at = CONTROLS.get(letter, ord(letter))
    return [(at, at)]


def _others(ranges: Ranges) -> Ranges:
    at, found = 0, []
    for low, high in sorted(ranges):
        if low > at:
            found.append((at, low - 1))
        at = max(at, high + 1)
    return [*found, (at, LAST)] if at <= LAST else found


def _meets(automaton: _Automaton, at: int) -> set[int]:
    """Where two paths meet that part at this position, with the same text."""
    found: set[int] = set()
    seen: set[Pair] = set()
    left = [(at, at)]
    while left:
        pair = left.pop()
        parted = pair[0] != pair[1]
        for one, other in automaton.after(pair):
            if one == other:
                found |= {one} if parted else set()
            elif (one, other) not in seen:
                seen.add((one, other))
                left.append((one, other))
    return found


def _longest(automaton: _Automaton, forks: list[int], loops: list[list[int]], of: dict[int, int]) -> int:
    """The most forks in a row; those of one loop count once, for without two ways around it their number grows with the
    text and not with its every letter. `of`: each position's loop."""
    longest: list[int] = []
    for number, loop in enumerate(loops):  # whoever follows comes before
        after = {of[each] for at in loop for each in automaton.follow[at]} - {number}
        longest.append(max(forks[at] for at in loop) + max((longest[each] for each in after), default=0))
    return max(longest, default=0)


def _doubles(automaton: _Automaton, at: int) -> int:
    """How often the ways double here: as many positions may follow with the same letter."""
    edges = [(edge, step) for next_ in automaton.follow[at] for edge, step in _edges(automaton.letters[next_])]
    most = now = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    return max(0, most - 1).bit_length()


def _edges(ranges: Ranges) -> Iterator[tuple[int, int]]:
    """Of the letters as a set: where one begins, and ends."""
    for low, high in _others(_others(ranges)):
        yield low, 1
        yield high + 1, -1


def _components(follow: list[set[int]]) -> list[list[int]]:
    """Positions that lead to each other, those who follow before those who lead to them (Tarjan 1972)."""
    number: dict[int, int] = {}
    lowest: dict[int, int] = {}
    stack: list[int] = []
    waiting: set[int] = set()
    found: list[list[int]] = []
    for root in range(len(follow)):
        calls = [] if root in number else [(root, iter(follow[root]))]
        if calls:
            number[root] = lowest[root] = len(number)
            stack.append(root)
            waiting.add(root)
        while calls:
            at, left = calls[-1]
            deeper = next((each for each in left if each not in number), None)
            if deeper is not None:
                number[deeper] = lowest[deeper] = len(number)
                stack.append(deeper)
                waiting.add(deeper)
                calls.append((deeper, iter(follow[deeper])))
                continue
            calls.pop()
            lowest[at] = min([lowest[at], *(lowest[each] for each in follow[at] if each in waiting)])
            if lowest[at] == number[at]:
                loop = stack[stack.index(at) :]
                del stack[-len(loop) :]
                waiting -= set(loop)
                found.append(loop)
    return found
