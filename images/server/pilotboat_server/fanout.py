"""Several answers at once: their events in one stream, and all of them cancelled together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing

from .types import Event, GenerateRequest

Generate = Callable[[GenerateRequest], AsyncGenerator[Event, None]]


async def events(generate: Generate, requests: tuple[GenerateRequest, ...]) -> AsyncGenerator[tuple[int, Event], None]:
    """(index, event) as they come; the first error ends all."""
    if len(requests) == 1:
        async with aclosing(generate(requests[0])) as single:
            async for event in single:
                yield 0, event
        return
    async with aclosing(_merged(generate, requests)) as merged:
        async for pair in merged:
            yield pair


async def _merged(generate: Generate, requests: tuple[GenerateRequest, ...]) -> AsyncGenerator[tuple[int, Event], None]:
    queue: asyncio.Queue[tuple[int, Event] | Exception | None] = asyncio.Queue()
    tasks = [asyncio.create_task(_pump(generate, index, request, queue)) for index, request in enumerate(requests)]
    try:
        async for pair in _until(queue, len(tasks)):
            yield pair
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until(
    queue: asyncio.Queue[tuple[int, Event] | Exception | None], open_streams: int
) -> AsyncIterator[tuple[int, Event]]:
    while open_streams:
        item = await queue.get()
        if isinstance(item, Exception):
            raise item
        if item is None:
            open_streams -= 1
        else:
            yield item


async def _pump(
    generate: Generate,
    index: int,
    request: GenerateRequest,
    queue: asyncio.Queue[tuple[int, Event] | Exception | None],
) -> None:
    try:
        async with aclosing(generate(request)) as stream:
            async for event in stream:
                queue.put_nowait((index, event))
    except Exception as error:  # carried to the reader, which raises it there
        queue.put_nowait(error)
    else:
        queue.put_nowait(None)
