"""HAProxy's line about a request, and what it says.

Owns: reading the line, and what counts as an error. Must not know: how lines come here, who counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .config import SPILL_SERVER
from .template import LOG_FIELDS

SPILL, COPY = ":spill", ":copy"
NONE = "-"
GIVEN_UP = ("CQ", "CC", "CH")
"""Termination states where the caller went before there was an answer. HAProxy calls the last 400; it is no mistake."""
NO_SERVER = "<NOSRV>"
REFUSED_BY_SPILL = 530
CUT = frozenset("sSDKRIU")
"""First letter of HAProxy's termination state where the answer was cut off by anything but the caller."""


@dataclass(frozen=True)
class Seen:
    """One request that ended. `revision` is None where it was refused before a replica had anything to do with it."""

    deployment: str
    revision: str | None
    status: int
    error: bool
    first_token: float | None
    """Milliseconds from a request that is all here to its answer's header. None where that begins with no token."""
    given_up: float | None
    """Likewise, until the caller went who had none."""
    retries: int
    judged: bool
    """Whether it says something of the revision: a model was asked (POST), and what for was not the caller's mistake.
    Of the rest there may be any number, soon answered: who polls `/v1/models`, or has a wrong key."""


class Fate(StrEnum):
    """What became of a copy of a request. Dropped: no replica was given it, or one had no room for it."""

    ANSWERED = "answered"
    FAILED = "failed"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Copied:
    """One copy that ended: no caller saw it, so it is no request."""

    deployment: str
    fate: Fate


def read(line: str, stopping: bool = False) -> Seen | Copied | None:
    """What a line says; None where another line says it of the same request, or it is none of ours.

    `stopping`: read from one who follows a worker that accepts nothing more (tails.py), and not told by the worker.
    """
    fields = dict(zip(LOG_FIELDS, line.split(), strict=False))
    if len(fields) != len(LOG_FIELDS) or fields["stopping"] != str(int(stopping)):
        return None
    if fields["frontend"].endswith(COPY):
        return Copied(fields["frontend"].removesuffix(COPY), _fate(fields))
    if fields["server"] == SPILL_SERVER:
        return None
    try:
        status, retries = int(fields["status"]), int(fields["retries"].removeprefix("+"))
        took, lasted = _time(fields["took"]), _time(fields["lasted"])
    except ValueError:
        return None
    left = fields["state"] in GIVEN_UP
    refused = fields["revision"] == NONE or (fields["server"] == NO_SERVER and status == 429)
    return Seen(
        fields["frontend"].removesuffix(SPILL),
        None if refused else fields["revision"],
        503 if status == REFUSED_BY_SPILL else status,
        500 <= status <= 599 or fields["state"][0] in CUT,
        took if status < 400 else None,
        lasted if left else None,
        retries,
        fields["asked"] != NONE and (left or not 400 <= status <= 499),
    )


def _time(text: str) -> float | None:
    """Milliseconds; None where a clock was set back meanwhile, or there are none."""
    return None if text.startswith(NONE) else float(text)


def _fate(fields: dict[str, str]) -> Fate:
    if fields["server"] in (NO_SERVER, SPILL_SERVER) or fields["status"] == "429":
        return Fate.DROPPED
    answered = fields["status"][0] in "234" and fields["state"][0] not in CUT
    return Fate.ANSWERED if answered else Fate.FAILED
