"""`pilotboat-probe --config probe.json`: all work, one report, one exit code.

Owns: arguments, the environment, signals, the end. Must not know: how anything is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from pilotboat.api.base import seconds
from pilotboat.api.probing import ProbeConfig, ProbeResult
from pilotboat.api.reasons import Reason
from pilotboat.api.runtime import CONFIG_DIR, TerminationReport

from . import report
from .client import Version, first_key, session
from .errors import Interrupted, InvalidConfig, ProbeError
from .load import LoadRun
from .perplexity import PerplexityRun
from .progress import Progress
from .prompts import PROMPTS, REFERENCES
from .quality import QualityRun
from .traffic import TrafficRun

KEYS = "PILOTBOAT_API_KEYS"
STOPS = (signal.SIGTERM, signal.SIGUSR1)
"""How kubelet ends it: the second is the stop signal of the gateway's image, in which the probe is a guest."""


def main(argv: Sequence[str] | None = None) -> int:
    """Probe, report, and return the exit code."""
    arguments = argparse.ArgumentParser(prog="pilotboat-probe", description=__doc__)
    arguments.add_argument("--config", type=Path, default=Path(CONFIG_DIR / "probe.json"))
    options = arguments.parse_args(argv)
    try:
        result = asyncio.run(_until_terminated(options.config))
    except ProbeError as error:
        return _failed(error.reason, str(error), error.exit_code)
    except Exception as error:  # whatever else: a report with a cause is worth more than a bare traceback
        traceback.print_exc()
        return _failed(Reason.PROBE_FAILED, type(error).__name__, 1)
    report.write(report.measured(result))
    return 0


async def probe(config: ProbeConfig, key: str | None, progress: Progress) -> ProbeResult:
    """All work of the config, in order. Raises ProbeError."""
    quality, perplexity, load, traffic = None, None, None, None
    prompts = config.prompts or PROMPTS
    async with session(key, seconds(config.request_timeout)) as http:
        canary = Version(http, "canary", config.canary, config.model)
        stable = Version(http, "stable", config.stable, config.model) if config.stable else None
        for version in filter(None, (stable, canary)):
            progress.say(f"{version}: waiting for an answer")
            await version.reach(seconds(config.connect_timeout))
        if config.quality and stable:
            quality = await QualityRun(config.quality, stable, canary).run(prompts, progress)
        if config.perplexity and stable:
            references = config.perplexity.references or REFERENCES
            perplexity = await PerplexityRun(config.perplexity, stable, canary).run(references, progress)
        if config.load_test:
            load = await LoadRun(config.load_test, canary).run(progress)
        if config.traffic and stable:
            traffic = await TrafficRun(config.traffic, stable, canary, time.time).run(prompts, progress)
    revision = config.stable.revision if config.stable else None
    return ProbeResult(
        canary=config.canary.revision,
        stable=revision,
        quality=quality,
        perplexity=perplexity,
        load_test=load,
        traffic=traffic,
    )


async def _until_terminated(path: Path) -> ProbeResult:
    config, key = _load(path), first_key(os.environ.get(KEYS))
    working = asyncio.create_task(probe(config, key, Progress()))
    for each in STOPS:
        asyncio.get_running_loop().add_signal_handler(each, working.cancel)
    try:
        return await working
    except asyncio.CancelledError:
        raise Interrupted("stopped before the end; nothing of it counts") from None


def _load(path: Path) -> ProbeConfig:
    try:
        return ProbeConfig.load(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidConfig(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise InvalidConfig(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _failed(reason: Reason, message: str, exit_code: int) -> int:
    print(f"probe: {reason}: {message}", file=sys.stderr, flush=True)
    report.write(TerminationReport(reason=reason, message=message))
    return exit_code
