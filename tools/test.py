"""`make test`: every check and every test, from a bare machine; each stage shown with its time.

Owns: the order of the stages and what each needs. Must not know: what is tested. Standard library only.

    python3 -m tools.test            everything
    python3 -m tools.test soak       faults that take long, and SOAK_MINUTES of faults, one a minute, on the lab
    python3 -m tools.test check      lint, types, layers, generated files, unit tests: no cluster, no images
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tools import host, place, venv
from tools.endings import spoken
from tools.host import ROOT
from tools.steps import StepFailed, step, timings

SOURCES = ("operator", "images", "tests", "tools")
TYPED = ("operator", "images/server", "images/trainer", "images/fetch", "images/gateway", "tools", "tests/lab")

GRACE = "20"
"""Seconds until the lab misses a silent node: Kubernetes' own 50 would be waited for again and again."""

LAB = "test"
"""The name of the tests' lab: a demo in the default one goes on."""

PYTEST = ("pytest", "-q", "--durations=40", "--durations-min=3")
"""With a word on which tests took the time."""
END_TO_END = ("tests/e2e", "-m")
BY_FILE = ("-n3", "--dist=loadfile", "--no-loadscope-reorder")
"""In the order of tests/integration/conftest.py."""


def main(argv: Sequence[str]) -> int:
    """Run the stages; 1 where any failed. Of the checks the first failure is the last stage, of the tests none is."""
    try:
        return spoken(lambda: run(argv))
    finally:
        for timing in timings():
            if timing.depth == 0:
                print(f"  {timing.title:<62} {timing.seconds:7.1f} s", flush=True)


def run(argv: Sequence[str]) -> int:
    """The stages that are asked for."""
    if "check" not in argv:
        place.check_machine()
    venv.update()
    if "soak" in argv:
        soak()
        return 0
    check()
    if "check" not in argv:
        whole()
    return 0


def check() -> None:
    """What needs no cluster."""
    stage("Lint", "ruff", "check", *SOURCES)
    stage("Format", "ruff", "format", "--check", *SOURCES)
    stage("Types", "mypy", f"--cache-dir={host.cache('mypy')}", *TYPED)
    stage("Layers", "lint-imports")
    stage("Generated files", "python", "-m", "tools.gen", "--check")
    host.need("openssl", "openssl")
    stage("Unit tests", "pytest", "tests/unit", "-q", "-n2")


def whole() -> None:
    """What needs a real API server, the images and the lab."""
    with lab() as start:
        # They wait more than they compute, so three at a time; an integration test's file stays together, for its
        # servers. Those have the machine to themselves: a lab at rest takes a fifth of two cores. None needs what
        # another leaves, so one that fails hides nothing of the next: a run on a new machine is dear.
        every(
            partial(stage, "Integration tests", *PYTEST, "tests/integration", "-m", "not long", *BY_FILE),
            start,
            partial(stage, "End-to-end tests side by side", *PYTEST, *END_TO_END, "not alone and not long", "-n3"),
            partial(stage, "End-to-end tests that break things", *PYTEST, *END_TO_END, "alone and not long"),
        )


def soak() -> None:
    """Faults without end, for as long as SOAK_MINUTES says; and before them, one by one, tests that take long."""
    with lab() as start:
        stage("Integration tests that take long", "pytest", "tests/integration", "-q", "-s", "-m", "long")
        start()
        stage("Faults that take long", "pytest", "tests/e2e", "-q", "-s", "-m", "long")
        stage("Soak on the lab", "pytest", "tests/e2e/test_soak.py", "-q", "-s")


@contextmanager
def lab() -> Iterator[Callable[[], object]]:
    """What starts one of the tests' own, whose programs and images are there, and what else they take of the machine;
    it is ended with the block."""
    os.environ.setdefault("LAB_NODE_GRACE", GRACE)
    with place.own_lab(LAB):
        place.prepare_lab()
        host.need("knotd", "knot")
        yield partial(place.the_lab, "default")


def every(*stages: Callable[[], object]) -> None:
    """All of them, whatever becomes of the ones before; raises StepFailed with all that failed."""
    failures = []
    for each in stages:
        try:
            each()
        except StepFailed as failure:
            failures.append(str(failure))
    if failures:
        raise StepFailed("\n".join(failures))


def stage(title: str, program: str, *args: str) -> None:
    """One program of `.venv`, its output shown as it comes."""
    with step(title):
        done = subprocess.run([str(venv.VENV / "bin" / program), *args], cwd=ROOT, check=False)
        if done.returncode:
            raise StepFailed(f"{title} failed: {program} ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
