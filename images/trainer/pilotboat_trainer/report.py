"""The termination message: one JSON object that tells the operator how the training ended.

Owns: writing it, and what is left out so that it fits. Must not know: why anything failed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pilotboat.api.reasons import Reason
from pilotboat.api.runtime import TERMINATION_LOG, TerminationReport, TrainerResult, files_digest

LOG_VARIABLE = "PILOTBOAT_TERMINATION_LOG"


def trained(result: TrainerResult, message: str) -> TerminationReport:
    """The report of success. Where all digests do not fit, those of the weights do, or their digest alone."""
    weights = {name: digest for name, digest in result.digests.items() if name.endswith(".safetensors")}
    whole = files_digest(result.digests)
    for digests in (result.digests, weights, {}):
        kept = result.model_copy(update={"digests": digests, "files_sha256": whole})
        body = kept.model_dump(mode="json", by_alias=True, exclude_none=True)
        report = TerminationReport(reason=Reason.TRAINED, message=message, result=body)
        if TerminationReport.parse(report.to_message()) == report:
            break
    return report


def write(report: TerminationReport) -> None:
    """Write it where kubelet looks; outside a pod, the last line of the log has to do."""
    path = Path(os.environ.get(LOG_VARIABLE) or TERMINATION_LOG)
    try:
        path.write_text(report.to_message(), "utf-8")
    except OSError as error:
        print(f"trainer: no termination message ({error.strerror}): {report.to_message()}", file=sys.stderr, flush=True)
