"""Programs of images that were borrowed: one tree's tests take none from another's."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tools.images.borrow import KEPT, forget


def test_only_what_nobody_has_borrowed_for_long_is_forgotten(tmp_path: Path) -> None:
    for name, age in (("old", KEPT + 60), ("another-trees", KEPT - 60), ("mine", 0)):
        (tmp_path / name / "bin").mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    forget(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"another-trees", "mine"}
