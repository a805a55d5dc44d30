"""The termination message: one JSON object that tells the operator how the fetch ended.

Owns: writing it, and what is left out so that it fits. Must not know: why anything failed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pilotboat.api.reasons import Reason
from pilotboat.api.runtime import TERMINATION_LOG, FetchedItem, FetchResult, TerminationReport

from .progress import mib
from .safety import WEIGHTS

LOG_VARIABLE = "PILOTBOAT_TERMINATION_LOG"


def fetched(result: FetchResult) -> TerminationReport:
    """The report of success, with as many digests as fit: the weights' come first, the manifest's always."""
    words = _words(result)
    for shorter in _ever_shorter(result):
        report = TerminationReport(
            reason=Reason.FETCHED, message=words, result=shorter.model_dump(by_alias=True, exclude_none=True)
        )
        if TerminationReport.parse(report.to_message()) == report:
            break
    return report


def _ever_shorter(result: FetchResult) -> Iterator[FetchResult]:
    yield result
    for keep in (WEIGHTS, ("/",)):
        items = {
            name: item.model_copy(update={"digests": {k: v for k, v in item.digests.items() if k.endswith(keep)}})
            for name, item in result.items.items()
        }
        yield FetchResult(items=items)


def _words(result: FetchResult) -> str:
    return "; ".join(f"{name}: {len(item.digests)} files{_of_cache(item)}" for name, item in result.items.items())


def _of_cache(item: FetchedItem) -> str:
    if item.cached is None:
        return ""
    return f", {mib(item.cached)} of {mib(item.bytes or 0)} from the cache"


def write(report: TerminationReport) -> None:
    """Write it where kubelet looks; outside a pod, the last line of the log has to do."""
    path = Path(os.environ.get(LOG_VARIABLE) or TERMINATION_LOG)
    try:
        path.write_text(report.to_message(), "utf-8")
    except OSError as error:
        print(f"fetch: no termination message ({error.strerror}): {report.to_message()}", file=sys.stderr, flush=True)
