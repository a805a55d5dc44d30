"""Who runs, who waits, who is refused: bounded admission, deadlines, cancellation, drain, and the figures of all that.

Owns the queue and the slots. Must not know: HTTP, OpenAI's JSON, which engine it drives. Runs in one event loop; only
`_Ticket.emit` is called from other threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from .engines.base import Cancel, Engine, failed
from .errors import ApiError, DeadlineExceeded, QueueFull, Unavailable
from .metrics import Metrics
from .types import Delta, Done, Event, Failed, GenerateRequest, Prefill


@dataclass(frozen=True)
class Limits:
    """What the service takes on."""

    slots: int
    max_queued: int
    timeout: float
    """Seconds from a request's arrival to its last token."""
    context: int
    """Tokens one slot can hold."""


@dataclass(eq=False)
class _Ticket:
    """One request on its way through."""

    request: GenerateRequest
    loop: asyncio.AbstractEventLoop
    scheduler: Scheduler
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    cancel: Cancel | None = None
    started: float = 0.0
    first_token: float = 0.0
    first_tokens: int = 0
    """Tokens that came with the first: the time per token is that of the others."""
    last_token: float = 0.0
    tokens: int = 0
    prompt_tokens: int = 0
    measured: bool = True
    """False for the warm-up and the deep check, which are no caller's."""
    expired: bool = False
    """Its reader was told that it ended; the engine may not be done with it yet."""

    def emit(self, event: Event) -> None:
        """From any thread, which may outlive the loop that listens."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.scheduler.on_event, self, event)


class Scheduler:
    """Drives one engine."""

    def __init__(self, engine: Engine, limits: Limits, metrics: Metrics) -> None:
        self._engine = engine
        self._limits = limits
        self._metrics = metrics
        self._running: set[_Ticket] = set()
        self._waiting: deque[_Ticket] = deque()
        self._refusal: str | None = "The model is still being loaded."
        self._last_sign = time.monotonic()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def running(self) -> int:
        """Requests the engine works on."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    @property
    def room(self) -> int:
        """Requests it takes in at a time: those that run and those that wait."""
        return self._limits.slots + self._limits.max_queued

    @property
    def refusal(self) -> str | None:
        """Why new requests are refused; None where they are not."""
        return self._refusal

    def quiet_seconds(self, now: float) -> float:
        """How long running work has shown no sign of life; 0 where nothing runs."""
        return now - self._last_sign if self._running else 0.0

    def open(self) -> None:
        """Take requests from now on."""
        self._refusal = None

    def refuse(self, reason: str) -> None:
        """Answer new requests with 503 from now on; those already in go on."""
        self._refusal = reason

    def sample(self) -> None:
        """Set the gauges, before they are read."""
        used = sum(ticket.prompt_tokens + ticket.tokens for ticket in self._running)
        self._metrics.running.set(len(self._running))
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.kv_usage.set(used / (self._limits.slots * self._limits.context))

    async def wait_idle(self) -> None:
        """Until nothing runs and nothing waits."""
        await self._idle.wait()

    def abort_all(self, running: ApiError, waiting: ApiError) -> None:
        """End every request with an error: the grace period is over, or the engine is broken."""
        for ticket in [*self._waiting]:  # these first: none of them shall begin in the place of one that ends
            self._end(ticket, waiting)
        for ticket in [*self._running]:
            self._end(ticket, running)

    async def generate(self, request: GenerateRequest, internal: bool = False) -> AsyncGenerator[Event, None]:
        """Events of one request, up to Done. `internal`: no caller's, so that no limit of theirs holds and no figure
        counts it. The warm-up runs while they are refused, the deep check where the queue is full.

        It has no deadline: a cold model may need longer for its first token than any caller would wait.
        """
        if not internal:
            self._admit()
        ticket = _Ticket(request, asyncio.get_running_loop(), self, measured=not internal)
        deadline = None if internal else ticket.loop.call_later(self._limits.timeout, self._expire, ticket)
        self._enqueue(ticket)
        try:
            while True:
                event = await ticket.events.get()
                if isinstance(event, Failed):
                    raise ApiError.from_wire(list(event.error))
                yield event
                if isinstance(event, Done):
                    return
        finally:
            if deadline is not None:
                deadline.cancel()
            self._abandon(ticket)

    def on_event(self, ticket: _Ticket, event: Event) -> None:
        """Something came from the engine, in the loop's thread."""
        now = self._last_sign = time.monotonic()
        match event:
            case Prefill(prompt_tokens):
                ticket.prompt_tokens = prompt_tokens
                return  # a sign of life for us; the reader has no use for it
            case Delta(_, tokens, _):
                self._count(ticket, tokens, now)
            case Done() | Failed():
                self._release(ticket, event, now)
        if not ticket.expired:
            ticket.events.put_nowait(event)

    def _admit(self) -> None:
        if self._refusal is not None:
            self._metrics.rejected("not_serving")
            raise Unavailable(self._refusal)
        if len(self._running) >= self._limits.slots and len(self._waiting) >= self._limits.max_queued:
            self._metrics.rejected("queue_full")
            raise QueueFull(f"{len(self._running)} requests run and {len(self._waiting)} wait; no more may wait.")

    def _enqueue(self, ticket: _Ticket) -> None:
        self._waiting.append(ticket)
        self._idle.clear()
        self._start_next()

    def _start_next(self) -> None:
        while self._waiting and len(self._running) < self._limits.slots:
            ticket = self._waiting.popleft()
            ticket.started = time.monotonic()
            if not self._running:
                self._last_sign = ticket.started
            self._running.add(ticket)
            if ticket.measured:
                self._metrics.queue_time.observe(max(0.0, ticket.started - ticket.request.arrived))
            ticket.cancel = self._engine.submit(ticket.request, ticket.emit)
        if not self._running and not self._waiting:
            self._idle.set()

    def _count(self, ticket: _Ticket, tokens: int, now: float) -> None:
        if tokens and not ticket.tokens and ticket.measured:
            self._metrics.first_token(now, now - ticket.request.arrived)
            ticket.first_token, ticket.first_tokens = now, tokens
        elif tokens and ticket.measured:
            self._metrics.between_tokens(now, now - ticket.last_token, tokens)
        ticket.last_token = now
        ticket.tokens += tokens

    def _release(self, ticket: _Ticket, event: Done | Failed, now: float) -> None:
        """The engine holds nothing for it any more: its slot is free."""
        self._running.discard(ticket)
        if ticket.measured:
            self._record(ticket, event, now)
        self._start_next()

    def _record(self, ticket: _Ticket, done: Done | Failed, now: float) -> None:
        metrics = self._metrics
        if isinstance(done, Failed):
            status: int = done.error[0]
            return metrics.rejected("invalid") if status < 500 else metrics.failed("engine")
        metrics.prompt_tokens.inc(done.prompt_tokens)
        metrics.generation_tokens.inc(done.completion_tokens)
        metrics.prefix_queries.inc(done.prompt_tokens)
        metrics.prefix_hits.inc(done.cached_tokens)
        if ticket.expired:
            return metrics.failed("deadline")
        metrics.succeeded(done.finish_reason)
        metrics.whole.observe(now - ticket.request.arrived)
        metrics.inference_time.observe(now - ticket.started)
        if ticket.tokens > ticket.first_tokens:
            decoding = ticket.last_token - ticket.first_token
            metrics.per_token.observe(decoding / (ticket.tokens - ticket.first_tokens))

    def _abandon(self, ticket: _Ticket) -> None:
        """Its reader is gone: take it from the queue, or cancel it; the slot is freed by the engine's last event."""
        if ticket in self._running and ticket.cancel is not None:
            ticket.cancel()
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
            if ticket.expired:
                self._metrics.failed("deadline")
            else:
                self._metrics.succeeded("cancelled")
            self._start_next()

    def _expire(self, ticket: _Ticket) -> None:
        self._end(ticket, DeadlineExceeded(f"The request took longer than {self._limits.timeout:g} s."))

    def _end(self, ticket: _Ticket, error: ApiError) -> None:
        """Tell the reader now; the engine's own last event then only frees the slot."""
        if not ticket.expired:
            ticket.expired = True
            ticket.events.put_nowait(failed(error))
            self._abandon(ticket)
