"""The job's folder: finished or not, of these inputs or of others."""

import json
from pathlib import Path

import pytest

from pilotboat.api.finetune_job import DatasetFormat
from pilotboat.api.runtime import MANIFEST, TrainerConfig, TrainerData, TrainerResult
from pilotboat_trainer import output
from pilotboat_trainer.dataset import Examples, read
from pilotboat_trainer.errors import Superseded
from pilotboat_trainer.files import create_json, read_json


def config(folder: Path, **changes: object) -> TrainerConfig:
    body = {"job": "qa", "base": str(folder / "base"), "dataset": {"path": str(folder)}, "output": str(folder / "qa")}
    return TrainerConfig.model_validate(body | changes)


def examples() -> Examples:
    return Examples(({"text": "x"},), ("t.jsonl line 1",), 1, DatasetFormat.TEXT, "d" * 64)


def result(digests: dict[str, str]) -> TrainerResult:
    return TrainerResult(
        type="Adapter",
        path="qa/adapter",
        digests=digests,
        steps=1,
        trainable_parameters=1,
        total_parameters=2,
        examples=1,
        dataset_sha256="d" * 64,
    )


def publish(place: output.Output, text: str = "weights") -> dict[str, str]:
    def save(folder: Path) -> None:
        (folder / "a.safetensors").write_text(text)

    return place.publish("adapter", save)


def finished(folder: Path) -> output.Output:
    place = output.Output(folder / "qa")
    place.begin("f1")
    done = result(publish(place))
    place.finish(done, {"digests": done.digests})
    return place


def test_a_finished_job_of_the_same_inputs_is_recognised(tmp_path: Path) -> None:
    found = finished(tmp_path).finished("f1")
    assert found
    assert found.path == "qa/adapter"


def test_other_inputs_or_a_changed_file_are_not_finished(tmp_path: Path) -> None:
    place = finished(tmp_path)
    assert place.finished("f2") is None
    (tmp_path / "qa" / "adapter" / "a.safetensors").write_text("tampered")
    assert place.finished("f1") is None


def test_starts_are_counted_and_other_inputs_begin_anew(tmp_path: Path) -> None:
    place = output.Output(tmp_path / "qa")
    assert [place.begin("f1").starts, place.begin("f1").starts] == [1, 2]
    assert place.writer.number == 2
    place.tensorboard.mkdir()
    assert place.begin("f2").starts == 1
    assert not place.tensorboard.exists()
    assert place.writer.number == 3, "writers are counted on: one of the former inputs may still run"


def test_a_superseded_writer_publishes_no_result_and_remembers_nothing(tmp_path: Path) -> None:
    stale = output.Output(tmp_path / "qa")
    run = stale.begin("f1")
    finished(tmp_path)
    written = (tmp_path / "qa" / "run.json").read_text()
    run.seconds = 7.0
    stale.remember(run)
    for write in (lambda: publish(stale, "stale"), lambda: stale.finish(result({}), {})):
        with pytest.raises(Superseded):
            write()
    assert (tmp_path / "qa" / "run.json").read_text() == written
    assert (tmp_path / "qa" / "adapter" / "a.safetensors").read_text() == "weights"
    assert output.Output(tmp_path / "qa").finished("f1")


def test_a_writer_superseded_while_it_saves_its_result_does_not_publish_it(tmp_path: Path) -> None:
    stale = output.Output(tmp_path / "qa")
    stale.begin("f1")

    def save(folder: Path) -> None:
        (folder / "a.safetensors").write_text("stale")
        finished(tmp_path)

    with pytest.raises(Superseded):
        stale.publish("adapter", save)
    assert (tmp_path / "qa" / "adapter" / "a.safetensors").read_text() == "weights"


def test_what_an_earlier_writer_left_half_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Killed in the middle of a save and of the publishing: each time a model's size that nobody reads."""
    killed = output.Output(tmp_path / "qa", tmp_path / "checkpoints")
    killed.begin("f1")
    halves = [killed.writer.working / "checkpoint-20", killed.path / ".model.1", killed.path / ".adapter.old"]
    others = [killed.writer.folder / "checkpoint-10", killed.path / ".model.7", killed.path / "model"]
    for folder in (*halves, *others):
        folder.mkdir(parents=True)
        (folder / "a.safetensors").write_text("weights")
    output.Output(tmp_path / "qa", tmp_path / "checkpoints").begin("f1")
    assert [folder for folder in halves if folder.exists()] == []
    assert [folder for folder in others if not (folder / "a.safetensors").exists()] == [], "a later one's are its own"


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_writer_that_wakes_up_after_its_half_was_removed_learns_why(tmp_path: Path, goes_on: bool) -> None:
    """Frozen while it saved: what it had is gone, and what it still adds goes with it."""
    stale = output.Output(tmp_path / "qa")
    stale.begin("f1")

    def save(folder: Path) -> None:
        (folder / "config.json").write_text("stale")
        finished(tmp_path)
        assert not folder.exists()
        if goes_on:
            folder.mkdir()
            (folder / "a.safetensors").write_text("stale")

    with pytest.raises(Superseded):
        stale.publish("adapter", save)
    assert (tmp_path / "qa" / "adapter" / "a.safetensors").read_text() == "weights"
    assert output.Output(tmp_path / "qa").finished("f1")
    assert not list(stale.path.glob(".adapter.*"))


def test_a_report_is_put_where_none_is(tmp_path: Path) -> None:
    create_json(tmp_path / "report.json", {"by": 2})
    with pytest.raises(FileExistsError):
        create_json(tmp_path / "report.json", {"by": 1})
    assert read_json(tmp_path / "report.json") == {"by": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_checkpoints_may_have_a_volume_of_their_own(tmp_path: Path) -> None:
    place = output.Output(tmp_path / "qa", tmp_path / "other" / "qa")
    place.begin("f1")
    assert place.writer.folder == tmp_path / "other" / "qa" / "writer-00001"
    assert not (tmp_path / "qa" / "checkpoints").exists()


def test_a_broken_record_begins_anew(tmp_path: Path) -> None:
    place = output.Output(tmp_path / "qa")
    place.begin("f1")
    (tmp_path / "qa" / "run.json").write_text('{"fingerprint": "f1", "sta')
    assert place.begin("f1").starts == 1


def test_publishing_replaces_whole_and_survives_an_earlier_failure(tmp_path: Path) -> None:
    place = finished(tmp_path)

    def fails(folder: Path) -> None:
        (folder / "half.safetensors").write_text("half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        place.publish("adapter", fails)
    assert (tmp_path / "qa" / "adapter" / "a.safetensors").read_text() == "weights"
    assert list(publish(place, "new")) == ["a.safetensors"]
    assert sorted(p.name for p in (tmp_path / "qa").iterdir() if p.name.startswith(".")) == []
    finished(tmp_path)
    assert sorted(p.name for p in (tmp_path / "qa").iterdir() if p.name.startswith(".")) == []


def test_the_fingerprint_follows_whatever_decides_the_result(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "model.safetensors").write_text("1")
    first = output.fingerprint(config(tmp_path), examples())
    assert output.fingerprint(config(tmp_path, cpuThreads=7, checkpointFolder="/c"), examples()) == first
    assert output.fingerprint(config(tmp_path, training={"seed": 7}), examples()) != first
    (base / "model.safetensors").write_text("12")
    assert output.fingerprint(config(tmp_path), examples()) != first


FILES = [("model.safetensors", "a" * 64), ("config.json", "b" * 64)]


def manifest(*files: tuple[str, str], commit: str = "1" * 40) -> str:
    """As fetch writes it."""
    entries = [{"path": path, "size": 1, "sha256": digest} for path, digest in files]
    source = {"huggingFace": "a/b", "type": "model", "revision": "main", "files": None}
    return json.dumps({"version": 1, "source": source, "revision": commit, "files": entries})


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (manifest(*FILES, commit="2" * 40), True),
        (manifest(*reversed(FILES)), True),
        (manifest(FILES[0], ("config.json", "c" * 64)), False),
        (manifest(FILES[0], ("settings.json", "b" * 64)), False),
        (manifest(FILES[0]), False),
        ("[]", False),
        ('{"files": [1]}', False),
    ],
)
def test_a_base_is_its_files_and_not_the_commit_that_had_them(tmp_path: Path, text: str, same: bool) -> None:
    """A branch moves on with every edit of a README, and the next pod must still find its own checkpoints."""
    base = tmp_path / "base"
    base.mkdir()
    (base / MANIFEST).write_text(manifest(*FILES))
    first = output.fingerprint(config(tmp_path), examples())
    (base / MANIFEST).write_text(text)
    assert (output.fingerprint(config(tmp_path), examples()) == first) is same


def test_results_are_named_from_the_volumes_root() -> None:
    assert output.Output(Path("/output/qa")).result_path("adapter") == "qa/adapter"
    assert output.Output(Path("/somewhere/qa")).result_path("model") == "qa/model"


def test_the_examples_own_digest_counts(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    first = output.fingerprint(config(tmp_path), read(TrainerData(path=str(tmp_path))))
    (tmp_path / "train.jsonl").write_text('{"text": "b"}\n')
    assert output.fingerprint(config(tmp_path), read(TrainerData(path=str(tmp_path)))) != first
