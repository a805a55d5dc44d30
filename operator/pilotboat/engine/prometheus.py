"""The Prometheus servers that users name, asked what their canaries' plans want to know.

Owns: when each is asked, over HTTP, with which token, and the newest answers. Must not know: what an answer means, nor
what a query is for.

One task a ModelDeployment, and connections that are counted by server: one that does not answer holds up nobody else.
Nothing is asked while nobody wants to know. A token is read anew for each look, is sent to the address in the spec
alone, and stands in no message: no redirect is followed, no cookie kept, and no word of a server passed on that had it.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import aiohttp
from prometheus_client import Counter

from pilotboat.api.analysis import Why
from pilotboat.api.sources import SecretKey
from pilotboat.plan.types import Answer, Questions

from .errors import ApiError, Forbidden, NotFound, QueryFailure, QueryNotPermitted
from .kinds import SECRET, Key, Kind
from .prometheus_answer import Values, read

log = logging.getLogger(__name__)

TIMEOUT = aiohttp.ClientTimeout(total=10, sock_connect=3)
"""Of one query, waiting for a connection to the same server included."""
MOST_BYTES = 1024 * 1024
"""Of one answer: thousands of series."""
AT_ONCE = 16
"""Queries under way at one server."""

Headers = dict[str, str]


class Secrets(Protocol):
    """What of the Api is needed here."""

    async def find(self, kind: Kind, namespace: str, name: str) -> dict[str, Any]: ...


@dataclass
class _Post:
    """One ModelDeployment's."""

    asked: Questions
    answers: tuple[Answer, ...] = ()
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Prometheus:
    """Keeps, for each parent that wants it, the newest answer to each of its queries."""

    def __init__(
        self,
        api: Secrets,
        wake: Callable[[Iterable[Key]], None],
        counted: Counter,
        now: Callable[[], datetime],
        *,
        timeout: aiohttp.ClientTimeout = TIMEOUT,
    ) -> None:
        self._api = api
        self._wake = wake
        self._counted = counted
        self._now = now
        self._timeout = timeout
        self._posts: dict[Key, _Post] = {}
        self._new: asyncio.Queue[tuple[Key, _Post]] = asyncio.Queue()

    def want(self, key: Key, asked: Questions | None) -> None:
        """From now on ask this for that parent, or ask no more and forget. Other questions wait for the next look."""
        post = self._posts.get(key)
        if asked is None:
            if post:
                del self._posts[key]
                post.gone.set()
        elif post is None:
            self._posts[key] = _Post(asked)
            self._new.put_nowait((key, self._posts[key]))
        elif post.asked != asked:
            post.asked, post.answers = asked, ()

    def of(self, key: Key) -> tuple[Answer, ...]:
        """The newest answers; none before the first look is over."""
        post = self._posts.get(key)
        return post.answers if post else ()

    async def run(self) -> None:
        """Look for all who want to know, for ever."""
        async with self._session() as session, asyncio.TaskGroup() as group:
            while True:
                key, post = await self._new.get()
                group.create_task(self._keep(session, key, post), name=f"prometheus {key}")

    def _session(self) -> aiohttp.ClientSession:
        """Without what a server could use against us: cookies of one user's are not another's, and a small body that
        unpacks to a large one is not unpacked."""
        return aiohttp.ClientSession(
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=0, limit_per_host=AT_ONCE),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            auto_decompress=False,
        )

    async def _keep(self, session: aiohttp.ClientSession, key: Key, post: _Post) -> None:
        """Look after look until nobody wants to know."""
        while not post.gone.is_set():
            asked = post.asked
            try:
                answers = await self._look(session, key.namespace, asked)
                if post.asked == asked and not post.gone.is_set():
                    post.answers = answers
                    self._wake([key])
            except Exception:  # a bug: this post waits, all others go on
                log.exception("%s: prometheus", key)
            with suppress(TimeoutError):
                await asyncio.wait_for(post.gone.wait(), asked.period)

    async def _look(self, session: aiohttp.ClientSession, namespace: str, asked: Questions) -> tuple[Answer, ...]:
        """Every query once; where the token cannot be had, none."""
        try:
            headers = await self._headers(namespace, asked.token)
        except QueryFailure as failure:
            return tuple(self._failed(query, failure) for query in asked.queries)
        asking = (self._ask(session, f"{asked.url.rstrip('/')}/api/v1/query", headers, q) for q in asked.queries)
        return tuple(await asyncio.gather(*asking))

    async def _ask(self, session: aiohttp.ClientSession, url: str, headers: Headers, query: str) -> Answer:
        try:
            values, stamp = await self._answered(session, url, headers, query)
        except QueryFailure as failure:
            return self._failed(query, failure)
        except TimeoutError:
            return self._failed(query, QueryFailure(f"no answer within {self._timeout.total:g} s"))
        except (aiohttp.ClientError, OSError, ValueError) as failure:
            return self._failed(query, QueryFailure(_words(failure)))
        self._counted.labels("answered").inc()
        return Answer(query, self._now(), values, stamp)

    async def _answered(self, session: aiohttp.ClientSession, url: str, headers: Headers, query: str) -> Values:
        async with session.get(url, params={"query": query}, headers=headers, allow_redirects=False) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise QueryFailure(f"the answer has more than {MOST_BYTES} bytes")
            return read(response.status, bytes(body), secret=bool(headers))

    def _failed(self, query: str, failure: QueryFailure) -> Answer:
        self._counted.labels("failed").inc()
        why = Why.NOT_PERMITTED if isinstance(failure, QueryNotPermitted) else Why.NO_ANSWER
        return Answer(query, self._now(), trouble=(why, str(failure)))

    async def _headers(self, namespace: str, ref: SecretKey | None) -> Headers:
        """With the token, where one is named. Raises QueryFailure, whose words have nothing of it."""
        if ref is None:
            return {}
        try:
            secret = await self._api.find(SECRET, namespace, ref.name)
        except Forbidden:
            raise QueryNotPermitted(
                f"the operator may not read Secret {ref.name}, which is to hold the token"
            ) from None
        except NotFound:
            raise QueryFailure(f"Secret {ref.name}, which is to hold the token, does not exist") from None
        except ApiError as failure:
            raise QueryFailure(f"Secret {ref.name} with the token cannot be read now: {failure.reason}") from None
        return {"Authorization": f"Bearer {_token((secret.get('data') or {}).get(ref.key), ref)}"}


def _token(held: str | None, ref: SecretKey) -> str:
    """What a header can have."""
    with suppress(binascii.Error, UnicodeDecodeError):
        token = base64.b64decode(held or "").decode("ascii").strip()
        if token.isprintable() and token and " " not in token:
            return token
    raise QueryFailure(f"Secret {ref.name} has no token in its key {ref.key}")


def _words(failure: Exception) -> str:
    """Our own words alone: an exception's may have what was sent."""
    if isinstance(failure, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(failure, aiohttp.ClientConnectorError):
        return "it cannot be reached"
    return f"no answer that can be read ({type(failure).__name__})"
