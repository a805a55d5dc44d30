"""A real control plane for a whole test run, and a namespace for each test."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kubernetes.aio import client

from pilotboat.engine.api import load_configuration
from pilotboat.wiring import quiet
from tests.integration.cluster import Cluster, control_plane, namespace_of
from tests.integration.proxy import Proxy

quiet()
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # what the tests compute themselves leaves cores to what they test


FIRST = (
    *("test_trainer_resume.py", "test_faults.py", "test_gateway.py", "test_trainer_real.py", "test_regions.py"),
    *("test_server_engines.py", "test_region_operator.py", "test_trainer_progress.py", "test_server_process.py"),
    *("test_data_plane.py", "test_trainer_results.py", "test_trainer_volume.py"),
)
"""Files that take long, those that compute among those that wait: the others fill what is left of a run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
    for item in items:
        if "plane" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.plane)


@pytest.fixture(scope="session")
def plane() -> Iterator[Path]:
    """The kubeconfig of a control plane without nodes, with our CRDs."""
    with control_plane(f"it-{os.getpid()}") as kubeconfig:
        yield kubeconfig


@pytest.fixture
async def configuration(plane: Path) -> client.Configuration:
    return await load_configuration(str(plane))


@pytest.fixture
async def cluster(configuration: client.Configuration, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """A namespace named after the test."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip("-")
    async with namespace_of(configuration, f"{name}-{uuid.uuid4().hex[:6]}") as found:
        yield found


@pytest.fixture
async def proxy(configuration: client.Configuration) -> AsyncIterator[Proxy]:
    async with Proxy(configuration) as running:
        yield running
