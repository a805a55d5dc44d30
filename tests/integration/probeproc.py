"""The probe as a process of its own, as its container runs it: with a config, an environment and a termination log."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotboat.api.probing import ProbeResult
from pilotboat.api.runtime import MAX_REPORT, TerminationReport

ASIDE = {"connectTimeout": "2s", "requestTimeout": "10s", "model": "m"}


@dataclass(frozen=True)
class Ended:
    """How a probe ended, and everything it said."""

    exit_code: int
    report: TerminationReport
    output: str

    @property
    def result(self) -> ProbeResult:
        assert (self.exit_code, self.report.reason) == (0, "Probed"), (self.report, self.output)
        return ProbeResult.model_validate(self.report.result)


def config(canary: str, stable: str | None = None, **work: Any) -> dict[str, Any]:
    """probe.json for the servers at these addresses."""
    made = {**ASIDE, "canary": {"revision": "bbbb2222", "url": canary}, **work}
    return made | ({"stable": {"revision": "aaaa1111", "url": stable}} if stable else {})


@asynccontextmanager
async def started(
    folder: Path, config: dict[str, Any], environ: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A probe under way; killed at the end where it still runs."""
    (folder / "probe.json").write_text(json.dumps(config))
    extra = {"PILOTBOAT_TERMINATION_LOG": str(folder / "probe-log"), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pilotboat_probe", "--config", str(folder / "probe.json")),
        env={**os.environ, **extra, **(environ or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(folder: Path, process: asyncio.subprocess.Process, said: str = "") -> Ended:
    """Wait for the end, and read what was left; `said` is the output that was read before."""
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    text = (folder / "probe-log").read_text()
    report = TerminationReport.parse(text)
    assert report, (text, output)
    assert len(text.encode()) <= MAX_REPORT
    assert process.returncode is not None
    return Ended(process.returncode, report, said + output.decode())


async def probe(folder: Path, config: dict[str, Any], environ: dict[str, str] | None = None) -> Ended:
    """A probe from beginning to end."""
    async with started(folder, config, environ) as process:
        return await ended(folder, process)
