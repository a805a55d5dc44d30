"""How much disk is asked for before images are built: the larger bound only where there is much to build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.images import disk, tree


@pytest.mark.parametrize(
    ("built", "copied", "used", "wanted"),
    [
        (False, False, 0, disk.HEIGHT),
        (False, False, 9, disk.HEIGHT - 9),
        (False, True, 23, disk.TORCH),
        (True, False, 10, disk.COPIES),
        (True, True, 23, 0),
    ],
    ids=["bare", "packages are there", "another torch", "never in a lab", "all is there"],
)
def test_what_is_there_is_not_asked_for_again(built: bool, copied: bool, used: float, wanted: float) -> None:
    assert disk.bound(built, copied, used) == wanted


def test_what_is_built_is_read_off_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTBOAT_CACHE", str(tmp_path))
    assert disk.wanted(lab=True) == pytest.approx(disk.HEIGHT, abs=0.1)
    store = tmp_path / "containers" / "storage" / "overlay-images"
    store.mkdir(parents=True)
    names = [None, ["localhost/pilotboat/torch:of-another-tree"]]
    (store / "images.json").write_text(json.dumps([{"id": "1"}, *({"names": each} for each in names)]))
    assert disk.wanted(lab=False) == pytest.approx(disk.HEIGHT, abs=0.1)
    (store / "images.json").write_text(json.dumps([{"names": [tree.refs()["torch"]]}]))
    assert disk.wanted(lab=False) == 0
    assert disk.wanted(lab=True) == disk.COPIES
    (tmp_path / "containers" / "oci" / "server").mkdir(parents=True)
    assert disk.wanted(lab=True) == 0
