"""The allow-list: what is fetched, what is left out, and what is refused with a reason."""

import pytest

from pilotboat.api.reasons import Reason
from pilotboat_fetch.errors import NothingUsable, SourceNotFound, UnsafeFile
from pilotboat_fetch.safety import choose, inside
from pilotboat_trainer.dataset import SUFFIXES


def test_only_allowed_types_are_chosen() -> None:
    paths = ["README.md", "config.json", "model.safetensors", "modeling.py", "pytorch_model.bin", "tokenizer.model"]
    assert choose(paths, None, "model", "r") == ["config.json", "model.safetensors", "tokenizer.model"]


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pt", "weights.pkl", "x.ckpt", "model.pth", "a.npy"])
def test_a_repository_with_pickled_weights_only_is_unsafe(weights: str) -> None:
    with pytest.raises(UnsafeFile, match=weights):
        choose(["config.json", weights], None, "model", "r")


def test_a_glob_that_names_only_a_pickle_is_unsafe() -> None:
    with pytest.raises(UnsafeFile, match=r"pytorch_model\.bin"):
        choose(["model.safetensors", "pytorch_model.bin"], ["*.bin"], "model", "r")


def test_a_python_file_beside_a_dataset_is_left_out() -> None:
    assert choose(["train.jsonl", "load.py"], None, "dataset", "r") == ["train.jsonl"]


@pytest.mark.parametrize("name", ["train.parquet", "train.csv", "train", "load.py"])
def test_a_data_set_of_other_types_is_told_so_and_not_accused(name: str) -> None:
    with pytest.raises(UnsafeFile, match=rf"may execute code or is of no known type: {name}\. Fetched are \.safe"):
        choose([name], None, "dataset", "r")


@pytest.mark.parametrize("name", SUFFIXES)
def test_what_a_trainer_reads_is_fetched(name: str) -> None:
    assert choose([f"train{name}"], None, "dataset", "r") == [f"train{name}"]


def test_a_repository_with_nothing_usable_says_so() -> None:
    with pytest.raises(NothingUsable) as error:
        choose(["README.md", ".gitattributes"], None, "model", "r")
    assert error.value.reason is Reason.INVALID_MODEL
    with pytest.raises(NothingUsable) as error:
        choose(["README.md"], None, "dataset", "r")
    assert error.value.reason is Reason.INVALID_DATASET


def test_globs_choose_and_an_exact_name_must_exist() -> None:
    paths = ["a.Q4_K_M.gguf", "a.Q8_0.gguf", "config.json"]
    assert choose(paths, ["*.Q4_K_M.gguf"], "model", "r") == ["a.Q4_K_M.gguf"]
    with pytest.raises(SourceNotFound, match=r"b\.gguf"):
        choose(paths, ["*.gguf", "b.gguf"], "model", "r")
    with pytest.raises(SourceNotFound, match=r"no file that matches \*\.safetensors"):
        choose(paths, ["*.safetensors"], "model", "r")


@pytest.mark.parametrize(
    "path",
    [
        *("../x.json", "/etc/x.json", "a/../../x.json", ".ssh/x.json", "a\\b.json", ""),
        *("a\0.json", "a\n.json", "a/\x7f.json", "\ud83d.json", f"{'ä' * 126}.json"),
    ],
)
def test_names_that_leave_the_folder_or_that_no_volume_takes_are_refused(path: str) -> None:
    with pytest.raises(UnsafeFile):
        inside(path)


def test_the_longest_name_is_one() -> None:
    assert inside(f"{'ä' * 125}.json")
