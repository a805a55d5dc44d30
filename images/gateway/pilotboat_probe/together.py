"""A closed loop: something is done with each of many entries, a few at once, and told how far it is.

Owns: how many at once, and counting those that are done. Must not know: what is done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from .progress import Progress

Entry = TypeVar("Entry")
Result = TypeVar("Result")


async def together(
    entries: Sequence[Entry],
    do: Callable[[Entry], Awaitable[Result]],
    most: int,
    progress: Progress,
    words: Callable[[int], str],
) -> list[Result]:
    """What came of each, in their order; `words` say that so many are done."""
    room, done = asyncio.Semaphore(most), 0

    async def one(entry: Entry) -> Result:
        nonlocal done
        async with room:
            result = await do(entry)
            done += 1
            return result

    async with progress.telling(lambda: words(done)), asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(entry)) for entry in entries]
    return [task.result() for task in tasks]
