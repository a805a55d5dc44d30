"""What is committed as compiled requirements: whole, hashed, of one version each, and bare of where it was made."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import host, requirements

COMPILED = [requirements.DEV, *(source.with_suffix(".txt") for source in requirements.images())]
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)


def text(path: Path) -> str:
    return (host.ROOT / path).read_text()


def blocks(path: Path) -> list[str]:
    """Each pinned package with the lines that belong to it."""
    return re.split(r"^(?=[a-z0-9])", text(path), flags=re.MULTILINE)[1:]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked(source: Path) -> set[str]:
    """The packages that a source names, with those of the sources that it stands on."""
    return {normal(line) for path in requirements.with_parents(source) for line in text(path).splitlines()}


@pytest.mark.parametrize("path", COMPILED, ids=str)
def test_every_package_is_pinned_with_hashes(path: Path) -> None:
    assert blocks(path)
    for block in blocks(path):
        assert PIN.match(block), block
        assert "--hash=sha256:" in block, block


@pytest.mark.parametrize("path", COMPILED, ids=str)
def test_no_index_and_no_path_of_a_machine_is_named(path: Path) -> None:
    assert not re.search(r"https?://|--(extra-)?index|--find-links|file:|/(home|root|tmp|work)/", text(path))


@pytest.mark.parametrize("source", [requirements.DEV_IN, *requirements.images()], ids=str)
def test_what_a_source_asks_for_is_compiled(source: Path) -> None:
    target = requirements.DEV if source == requirements.DEV_IN else source.with_suffix(".txt")
    have = {normal(name) for name, _ in PIN.findall(text(target))}
    assert asked(source) <= have, f"run `make requirements`: {asked(source) - have}"


@pytest.mark.parametrize("path", [path for path in COMPILED if path.parent.name != "builder"], ids=str)
def test_images_and_host_have_the_same_versions(path: Path) -> None:
    host_versions = set(PIN.findall(text(requirements.DEV)))
    assert set(PIN.findall(text(path))) <= host_versions


def test_large_images_add_to_torch_and_never_replace_a_part_of_it() -> None:
    torch = set(PIN.findall(text(Path("images/torch/requirements.txt"))))
    for name in ("server", "trainer"):
        assert torch <= set(PIN.findall(text(Path(f"images/{name}/requirements.txt"))))


def test_the_package_can_be_installed_with_every_extra(tmp_path: Path) -> None:
    """What pip asks for before anything else: metadata, made by setuptools offline, in a copy of what it reads."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(host.ROOT / name, tmp_path)
    for name in ("operator", "images", "tests"):
        shutil.copytree(host.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('out')"
    (tmp_path / "out").mkdir()
    made = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (folder,) = (tmp_path / "out").glob("*.dist-info")
    found = PathDistribution(folder)
    assert set(found.metadata.get_all("Provides-Extra", ())) == {"dev", "fetch", "gateway", "server", "trainer"}
    needs = [Requirement(line) for line in found.requires or ()]
    for extra, wanted in {
        "": "kopf",
        "server": "torch",
        "trainer": "torch",
        "gateway": "aiohttp",
        "dev": "trl",
    }.items():
        have = {need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})}
        assert wanted in have


def test_every_package_of_ours_is_installed() -> None:
    settings = tomllib.loads(text(Path("pyproject.toml")))["tool"]["setuptools"]
    found = set()
    for name, folder in settings["package-dir"].items():
        top = host.ROOT / folder
        found |= {".".join((name, *path.parent.relative_to(top).parts)) for path in top.rglob("__init__.py")}
    assert set(settings["packages"]) == found
