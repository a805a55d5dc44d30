"""What a user asked of the API server, by the API server's own log.

Owns: reading the log and sorting requests. Must not know: who asks, or why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READS = frozenset({"get", "list", "watch"})


@dataclass(frozen=True)
class Request:
    """One answered request."""

    user: str
    verb: str
    resource: str
    """With its subresource."""
    code: int
    group: str = ""
    namespace: str = ""

    @property
    def write(self) -> bool:
        """Whether it changed something."""
        return self.verb not in READS and self.code < 300


class Log:
    """A log that grows: `mark` remembers where it ends, `since` reads from there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def mark(self) -> None:
        """What is there already is not of interest."""
        self._offset = self._path.stat().st_size

    def since(self, user: str) -> list[Request]:
        """The user's requests answered since the mark; watches once they are open."""
        return [request for request in self._read() if request.user == user]

    def _read(self) -> Iterator[Request]:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                event = json.loads(line)
                if (event["stage"] == "ResponseStarted") == (event["verb"] == "watch"):
                    yield _request(event)


def _request(event: dict[str, Any]) -> Request:
    about = event.get("objectRef") or {}
    resource = "/".join(filter(None, (about.get("resource"), about.get("subresource"))))
    code = (event.get("responseStatus") or {}).get("code", 0)
    group, namespace = (about.get(field) or "" for field in ("apiGroup", "namespace"))
    return Request(event["user"]["username"], event["verb"], resource, code, group, namespace)


def writes(requests: list[Request], *, events: bool = False) -> int:
    """Successful writes of objects, without Leases; or, with `events`, of Kubernetes Events alone."""
    return sum(r.write and r.resource != "leases" and (r.resource == "events") == events for r in requests)


def tally(requests: list[Request]) -> Counter[tuple[str, str, int]]:
    """How often each verb was asked of each resource, with which answer."""
    return Counter((request.verb, request.resource, request.code) for request in requests)
