"""The operator as a process of its own, as an outsider sees it: its page of metrics, its memory, its processor time.

Owns: how it is started and ended, and reading /proc. Must not know: what is measured with it.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lab import plane
from tools.host import ROOT
from tools.steps import StepFailed, tail

NAMESPACE = "pilotboat-system"
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 120.0
SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Operator:
    """A running operator."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.log = log
        self.started = time.monotonic()
        self._url = f"http://127.0.0.1:{port}/metrics"

    @property
    def cpu(self) -> float:
        """Seconds of processor time used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def memory(self) -> float:
        """MiB of memory of its own: what it shares with other processes (its interpreter's file) is not counted."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0

    def samples(self) -> Samples:
        """Its page of metrics; empty while it does not answer."""
        try:
            with urllib.request.urlopen(self._url, timeout=10) as response:
                page = response.read().decode()
        except OSError:
            return {}
        found = (match.group("name", "labels", "value") for match in SAMPLE.finditer(page))
        return {(name, frozenset(LABEL.findall(labels or ""))): float(value) for name, labels, value in found}

    def value(self, name: str, **labels: str) -> float:
        """A metric, summed over the labels not given."""
        return total(self.samples(), name, **labels)

    def await_value(self, name: str, least: float, **labels: str) -> None:
        """Until a metric is so large."""
        began = time.monotonic()
        while self.value(name, **labels) < least:
            waited = time.monotonic() - began
            if self.process.poll() is not None or waited > PATIENCE:
                raise StepFailed(f"{name} is never {least:g}. The end of {self.log}:\n{tail(self.log)}")
            time.sleep(max(0.1, waited / 10))  # each look makes it count every resource

    async def ended(self) -> None:
        """Returns never; StepFailed once the operator has ended, which it should not."""
        while self.process.poll() is None:  # noqa: ASYNC110 -- a process that is not asyncio's own
            await asyncio.sleep(1)
        raise StepFailed(f"The operator ended. The end of {self.log}:\n{tail(self.log)}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it; one that does not stop is killed."""
        self.process.send_signal(number)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def total(samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """A metric, summed over the labels not given."""
    wanted = set(labels.items())
    return sum(value for (known, has), value in samples.items() if known == f"pilotboat_{name}" and wanted <= has)


@contextmanager
def operator(kubeconfig: Path, log: Path, identity: str = "bench") -> Iterator[Operator]:
    """Runs while the block does, with its defaults but for ports and times. The block may end it itself."""
    http, progress = plane.free_ports(2)
    env = {
        "PILOTBOAT_KUBECONFIG": str(kubeconfig),
        "PILOTBOAT_NAMESPACE": NAMESPACE,
        "PILOTBOAT_IDENTITY": identity,
        "PILOTBOAT_HTTP_HOST": "127.0.0.1",
        "PILOTBOAT_HTTP_PORT": str(http),
        # A machine busier than any node ought to be must not cost us the Lease in the middle of a measurement.
        "PILOTBOAT_LEASE_DURATION": "120",
        "PILOTBOAT_LEASE_RENEW": "90",
        # A slow machine must not pay for more rounds of the resync than a fast one; `restart` measures one.
        "PILOTBOAT_WORK_RESYNC": "36000",
        "PILOTBOAT_PROGRESS_HOST": "127.0.0.1",
        "PILOTBOAT_PROGRESS_PORT": str(progress),
        "PYTHONPATH": str(ROOT / "operator"),
    }
    with log.open("a") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pilotboat", "operator"],
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    running = Operator(process, http, log)
    try:
        yield running
    finally:
        running.end()
