"""A volume that is full or fails: told as such, and a pod leaves room for the next one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from standins import tiny
from standins.training import Training

STEPS: dict[str, Any] = {
    "training": {"maxSteps": 8, "batchSize": 4, "maxLength": 64, "learningRate": 0.01},
    "checkpoints": {"everySteps": 4},
    "method": {"type": "Full"},
}
TWO_PODS = """
mount -t tmpfs -o size=2m volume "$VOLUME" || exit 99
head -c $((2048 * 1024 - ROOM * 1024)) /dev/zero > "$VOLUME/others"
"$@"; echo "ended with $?"
find "$VOLUME" -name .writing
rm "$VOLUME/others"
cp "$PILOTBOAT_TERMINATION_LOG" "$PILOTBOAT_TERMINATION_LOG.first"
exec "$@"
"""
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize(
    "room", [pytest.param(330, marks=pytest.mark.long), 700], ids=["the first checkpoint", "the second"]
)
def test_a_full_volume_is_told_and_nothing_half_saved_stays_in_it(base: Path, tmp_path: Path, room: int) -> None:
    """A real one, of two megabytes, in a namespace of its own; once somebody makes room, the next pod goes on."""
    mount = ("mount", "-t", "tmpfs", "none", str(tmp_path))
    if subprocess.run([*NAMESPACE, *mount], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces here to mount a volume in")
    volume = tmp_path / "volume"
    volume.mkdir()
    job = Training(tmp_path / "job", base, **STEPS | {"output": str(volume / "qa")})
    pods = job.start_in((*NAMESPACE, "sh", "-c", TWO_PODS, "pods"), {"VOLUME": str(volume), "ROOM": str(room)})
    with pods:
        try:
            output, _ = pods.communicate(timeout=600)
        finally:
            pods.kill()
    assert "ended with 1\n" in output, output
    first = json.loads(Path(f"{job.log}.first").read_text())
    assert first["reason"] == "DiskFull", first
    assert first["message"].startswith("no room left on a volume of the job's: enlarge the claim (output.pvc, ")
    assert "/.writing\n" not in output
    assert pods.returncode == 0, output
    assert ("continuing from step 4" in output) is (room == 700)
