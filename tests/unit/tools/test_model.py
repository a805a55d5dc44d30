"""The model put together from its packages: what is kept, and what is refused. A script stands for uv."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tools import host, model, venv
from tools.steps import Step, StepFailed

PARTS = [b"GGUF", b" and", b" so ", b"on"]
SHA256 = hashlib.sha256(b"".join(PARTS)).hexdigest()
HOME = model.PACKAGE.replace("-", "_")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What uv installs: the packages as they are published, but of a small file."""
    folder = tmp_path / "packages"
    for number, content in enumerate(PARTS):
        part = folder / f"{HOME}_part{number + 1}" / "data" / f"{model.FILE}.part{number:02}"
        part.parent.mkdir(parents=True)
        part.write_bytes(content)
    home = folder / HOME / "data"
    home.mkdir(parents=True)
    (home / "SHA256SUMS").write_text(f"{SHA256}  {model.FILE}\n")
    for name in ("GEMMA_TERMS.html", "NOTICE.md"):
        (home / name).write_text(f"the words of {name}")
    uv = tmp_path / "uv"
    uv.write_text(f'#!/bin/sh\nwhile [ "$1" != --target ]; do shift; done\ncp -r {folder} "$2"\n')
    uv.chmod(0o755)
    monkeypatch.setattr(venv, "uv", lambda: uv)
    monkeypatch.setattr(model, "SHA256", SHA256)
    monkeypatch.setenv("PILOTBOAT_CACHE", str(tmp_path / "cache"))
    return folder


def assembled() -> list[str]:
    """Names of what then lies in the cache."""
    model._assemble(host.cache("model", "gguf") / model.FILE, Step("Model"))
    return kept()


def kept() -> list[str]:
    return sorted(path.name for path in host.cache("model", "gguf").iterdir())


def test_the_parts_become_the_file_with_the_licence_beside_it(packages: Path) -> None:
    seal = Path(model.FILE).with_suffix(".verified").name
    assert assembled() == sorted(["GEMMA_TERMS.html", "NOTICE.md", model.FILE, seal])
    whole = host.cache("model", "gguf") / model.FILE
    assert whole.read_bytes() == b"".join(PARTS)
    assert (whole.with_name("GEMMA_TERMS.html")).read_text() == "the words of GEMMA_TERMS.html"
    shutil.rmtree(packages)
    assert model.gguf() == whole, "nothing is installed again"


def test_a_file_that_was_changed_is_assembled_anew(packages: Path) -> None:
    assembled()
    whole = host.cache("model", "gguf") / model.FILE
    whole.write_bytes(b"shorter")
    assert model.gguf().read_bytes() == b"".join(PARTS)


def test_a_changed_byte_is_refused_and_nothing_is_taken_for_the_model(packages: Path) -> None:
    (part,) = packages.glob("*_part3/data/*")
    part.write_bytes(b" SO ")
    with pytest.raises(StepFailed, match=f"not {SHA256}: the packages are not what they were"):
        assembled()
    assert model.FILE not in kept()


def test_a_package_that_names_another_checksum_is_refused(packages: Path) -> None:
    """Though its parts are the right ones."""
    (packages / HOME / "data" / "SHA256SUMS").write_text(f"{'0' * 64}  {model.FILE}\n")
    with pytest.raises(StepFailed, match="names another checksum"):
        assembled()
    assert model.FILE not in kept()
