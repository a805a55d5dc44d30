"""The termination message: one JSON object that tells the operator what the probe measured, or why not.

Owns: writing it, and what becomes coarser so that it fits. Must not know: how anything was measured.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pilotboat.api.probing import Difference, ProbeResult, TrafficResult
from pilotboat.api.reasons import Reason
from pilotboat.api.runtime import TERMINATION_LOG, TerminationReport

from .measure import coarser

LOG_VARIABLE = "PILOTBOAT_TERMINATION_LOG"
CUTS = (120, 40, 0)
"""Characters of each text of an example that are tried in turn; 0 leaves the examples out."""

GRAINS = (*((each, 1) for each in (1, 2, 3, 5, 10, 20, 60)), *((60, each) for each in (2, 4, 8)))
"""Minutes and buckets in one, tried in turn. Minutes first: a gate needs the latencies more than the moment."""


def measured(result: ProbeResult) -> TerminationReport:
    """The report of success: no request is left out, but examples go and counts become coarser until it fits."""
    words = _words(result)
    for shorter in _ever_shorter(result):
        data = shorter.model_dump(by_alias=True, exclude_none=True)
        report = TerminationReport(reason=Reason.PROBED, message=words, result=data)
        if TerminationReport.parse(report.to_message()) == report:
            return report
    raise AssertionError("the coarsest of these fits")


def write(report: TerminationReport) -> None:
    """Write it where kubelet looks; outside a pod, the last line of the log has to do."""
    path = Path(os.environ.get(LOG_VARIABLE) or TERMINATION_LOG)
    try:
        path.write_text(report.to_message(), "utf-8")
    except OSError as error:
        print(f"probe: no termination message ({error.strerror}): {report.to_message()}", file=sys.stderr, flush=True)


def _ever_shorter(result: ProbeResult) -> Iterator[ProbeResult]:
    for length in CUTS:
        shorter = _with_examples(result, length)
        yield shorter
    if shorter.traffic is not None:
        for minutes, buckets in GRAINS:
            yield shorter.model_copy(update={"traffic": _grained(shorter.traffic, minutes, buckets)})


def _with_examples(result: ProbeResult, length: int) -> ProbeResult:
    if result.quality is None:
        return result
    cut = [_cut(example, length) for example in result.quality.examples] if length else []
    return result.model_copy(update={"quality": result.quality.model_copy(update={"examples": cut})})


def _cut(example: Difference, length: int) -> Difference:
    return Difference(prompt=example.prompt[:length], stable=example.stable[:length], canary=example.canary[:length])


def _grained(traffic: TrafficResult, minutes: int, buckets: int) -> TrafficResult:
    first = min((minute.start for minute in (*traffic.stable, *traffic.canary)), default=0)
    return traffic.model_copy(
        update={
            "stable": coarser(traffic.stable, first, minutes, buckets),
            "canary": coarser(traffic.canary, first, minutes, buckets),
            "minutes_each": minutes,
            "buckets_each": buckets,
        }
    )


def _words(result: ProbeResult) -> str:
    told = []
    if quality := result.quality:
        told.append(f"quality: {quality.canary.exact} of {quality.canary.answered} answers are the same")
    if perplexity := result.perplexity:
        told.append(f"perplexity: {perplexity.canary} of the canary, {perplexity.stable} of stable")
    if load := result.load_test:
        told.append(f"load: {load.ok} of {load.sent} requests answered")
    if traffic := result.traffic:
        told.append(f"traffic: {sum(minute.requests for minute in traffic.canary)} requests to the canary")
    return "; ".join(told)
