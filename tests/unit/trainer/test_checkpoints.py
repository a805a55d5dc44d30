"""Which checkpoint is whole, whatever a kill left behind; which one counts, whoever wrote it; which ones are kept."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pilotboat_trainer.checkpoints import MANIFEST, NEEDED, SENTINEL, Checkpoints, Found, flaw
from pilotboat_trainer.errors import Superseded
from pilotboat_trainer.writers import Writer


def library_saves(kept: Checkpoints, step: int) -> Path:
    """What the trainer library leaves where it was told to save."""
    path = kept.working / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("adapter_model.safetensors", *NEEDED):
        (path / name).write_bytes(os.urandom(64))
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def saved(kept: Checkpoints, step: int) -> Path:
    library_saves(kept, step)
    return kept.publish(step)


def checkpoints(folder: Path, keep: int = 2, inputs: str = "f1") -> Checkpoints:
    """Those of another pod."""
    return Checkpoints(folder, Writer.claim(folder), inputs, keep)


def cut(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = (path / name).read_bytes()
        (path / name).write_bytes(data[:-10])

    return damage


def restated(path: Path) -> None:
    """All digests are right, and yet it is the state of another step."""
    (path / "trainer_state.json").write_text('{"global_step": 1}')
    redigested(path)


def redigested(path: Path) -> None:
    from pilotboat_trainer.files import digests

    manifest = json.loads((path / MANIFEST).read_text())
    files = {name: digest for name, digest in digests(path).items() if name != MANIFEST}
    (path / MANIFEST).write_text(json.dumps(manifest | {"files": files}))


def without(name: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        (path / name).unlink()
        redigested(path)

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "sentinel": (lambda path: (path / SENTINEL).touch(), "marked as incomplete"),
    "weights gone": (
        lambda path: (path / "adapter_model.safetensors").unlink(),
        "adapter_model.safetensors is missing",
    ),
    "weights cut": (cut("adapter_model.safetensors"), "adapter_model.safetensors is missing, cut off or changed"),
    "weights empty": (lambda path: (path / "adapter_model.safetensors").write_bytes(b""), "adapter_model"),
    "optimizer cut": (cut("optimizer.pt"), "optimizer.pt is missing, cut off or changed"),
    "state cut": (cut("trainer_state.json"), "trainer_state.json is missing, cut off or changed"),
    "no manifest": (lambda path: (path / MANIFEST).unlink(), "digests.json is missing"),
    "manifest cut": (cut(MANIFEST), "digests.json is missing or cut off"),
    "saved without weights": (without("adapter_model.safetensors"), "it has no weights"),
    "saved without the optimizer": (without("optimizer.pt"), "it has no optimizer.pt"),
    "saved without the random state": (without("rng_state.pth"), "it has no rng_state.pth"),
    "state of another step": (restated, "trainer_state.json is of step 1"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_skipped_and_told_and_the_one_before_it_used(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = checkpoints(tmp_path)
    good, bad = saved(first, 90), saved(first, 100)
    assert flaw(bad) is None
    damage, words = DAMAGE[kind]
    damage(bad)
    assert checkpoints(tmp_path).last_good() == Found(good, 90, 1)
    told = capsys.readouterr().out
    assert "checkpoint-100 of writer 1 is skipped" in told
    assert words in told


def test_what_was_not_finished_saving_is_no_checkpoint(tmp_path: Path) -> None:
    first = checkpoints(tmp_path)
    good = saved(first, 90)
    library_saves(first, 100)
    assert checkpoints(tmp_path).last_good() == Found(good, 90, 1)


def test_a_checkpoint_of_other_inputs_is_not_continued_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(checkpoints(tmp_path), 90)
    assert checkpoints(tmp_path, inputs="f2").last_good() is None
    assert "checkpoint-90 of writer 1 is skipped: it is of other inputs" in capsys.readouterr().out


def test_steps_are_numbers_and_other_folders_are_none_of_our_business(tmp_path: Path) -> None:
    first = checkpoints(tmp_path)
    saved(first, 9)
    newest = saved(first, 100)
    (newest.parent / "checkpoint-best").mkdir()
    (tmp_path / "lost+found").mkdir()
    assert checkpoints(tmp_path).last_good() == Found(newest, 100, 1)
    assert (newest.parent / "checkpoint-best").exists()


def test_nothing_there(tmp_path: Path) -> None:
    assert checkpoints(tmp_path / "missing").last_good() is None


def test_as_many_are_kept_as_were_asked_for_over_all_writers(tmp_path: Path) -> None:
    first = checkpoints(tmp_path, keep=2)
    for step in (10, 20, 30):
        saved(first, step)
    second = checkpoints(tmp_path, keep=2)
    saved(second, 40)
    names = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.glob("*/checkpoint-*"))]
    assert names == ["writer-00001/checkpoint-30", "writer-00002/checkpoint-40"]
    saved(second, 50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["writer-00002"], "an earlier writer's folder goes too"


# two writers


def test_a_superseded_writer_publishes_nothing(tmp_path: Path) -> None:
    stale = checkpoints(tmp_path)
    saved(stale, 10)
    library_saves(stale, 20)
    checkpoints(tmp_path)
    with pytest.raises(Superseded, match="writer 2 has taken over from this pod, writer 1"):
        stale.publish(20)
    assert [path.name for path in tmp_path.glob("*/checkpoint-*")] == ["checkpoint-10"]


def test_what_slipped_through_before_the_claim_counts_until_the_successor_has_saved(tmp_path: Path) -> None:
    """The check and the rename are two steps: a rename that comes late must not undo what the successor saves."""
    stale = checkpoints(tmp_path)
    saved(stale, 10)
    library_saves(stale, 40)
    second = checkpoints(tmp_path)
    late = stale.working / "checkpoint-40"
    (late / MANIFEST).write_text(json.dumps({"writer": 1, "step": 40, "fingerprint": "f1", "files": {}}))
    redigested(late)
    late.rename(late.parents[1] / late.name)
    newest = saved(second, 20)
    assert checkpoints(tmp_path).last_good() == Found(newest, 20, 2)


def test_a_superseded_writer_removes_nothing_of_its_successors(tmp_path: Path) -> None:
    stale, second = checkpoints(tmp_path, keep=1), checkpoints(tmp_path, keep=1)
    kept = saved(second, 20)
    library_saves(stale, 30)
    with pytest.raises(Superseded):
        stale.publish(30)
    assert kept.exists()


def test_numbers_rise_and_are_taken_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        writers = list(pool.map(lambda _: Writer.claim(tmp_path), range(40)))
    assert sorted(writer.number for writer in writers) == list(range(1, 41))
    assert [writer.number for writer in writers if writer.newest] == [40]


def test_a_writer_whose_claim_is_gone_stops(tmp_path: Path) -> None:
    writer = Writer.claim(tmp_path / "checkpoints")
    writer.folder.rmdir()
    with pytest.raises(Superseded, match="is gone"):
        writer.check()
