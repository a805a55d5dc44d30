"""Files of a data set: found, read, digested; the first broken line named with its number."""

import gzip
import hashlib
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.finetune_job import DatasetFormat
from pilotboat.api.runtime import TrainerData
from pilotboat_trainer.dataset import read
from pilotboat_trainer.errors import InvalidDataset, TrainingFailed

GOOD = '{"prompt": "a", "completion": "b"}'
ROOT = Path(__file__).parents[3]


def data(path: Path, shape: DatasetFormat = DatasetFormat.AUTO) -> TrainerData:
    return TrainerData(path=str(path), format=shape)


def written(folder: Path, text: str | bytes, name: str = "train.jsonl") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_files_of_a_folder_in_order_plain_and_compressed(tmp_path: Path) -> None:
    written(tmp_path, '{"text": "one"}\n', "a.jsonl")
    written(tmp_path, gzip.compress(b'{"text": "two"}\n'), "b.jsonl.gz")
    written(tmp_path, '{"text": "judged"}\n', "eval.jsonl")
    written(tmp_path, "{}", "MANIFEST.json")
    examples = read(data(tmp_path))
    assert [row["text"] for row in examples.rows] == ["one", "two"]
    assert examples.format is DatasetFormat.TEXT
    assert not examples.conversational


def test_one_file_by_its_path_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + f"\n{GOOD}\n\n  \n{GOOD}".encode()
    examples = read(data(written(tmp_path, text) / "train.jsonl"))
    assert (examples.lines, len(examples.rows)) == (2, 2)
    assert examples.sha256 == hashlib.sha256(text).hexdigest()


def test_the_digest_of_a_folder_depends_on_every_file(tmp_path: Path) -> None:
    written(tmp_path, '{"text": "one"}\n', "a.jsonl")
    written(tmp_path, '{"text": "two"}\n', "b.jsonl")
    first = read(data(tmp_path)).sha256
    written(tmp_path, '{"text": "2"}\n', "b.jsonl")
    assert read(data(tmp_path)).sha256 != first


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"prompt": "a", "completion": "b"', "not JSON: Expecting ',' delimiter at column"),
        ("[1, 2]", "wanted an object, got list"),
        ('{"prompt": "a"}', "'completion' is missing"),
        (b'{"prompt": "\xff"}', "not UTF-8: byte 13 is 0xff"),
        ("nonsense", "not JSON: Expecting value at column 1"),
        ("[" * 100_000, "nested too deep"),
        (f'{{"prompt": "a", "completion": "b", "id": {"1" * 5000}}}', "a number is too long: Exceeds the limit"),
        ('{"prompt": "a", "completion": "b \\ud83d"}', "'completion' has half a character"),
    ],
)
def test_a_broken_line_is_named_with_its_number(tmp_path: Path, line: str | bytes, what: str) -> None:
    broken = line if isinstance(line, bytes) else line.encode()
    text = f"{GOOD}\n\n{GOOD}\n".encode() + broken + f"\n{GOOD}\n".encode()
    with pytest.raises(InvalidDataset, match=r"^train\.jsonl line 4: ") as error:
        read(data(written(tmp_path, text)))
    assert what in str(error.value)


def test_further_broken_lines_are_listed_but_not_without_end(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset) as error:
        read(data(written(tmp_path, f"{GOOD}\n" + "x\n" * 50)))
    assert "also broken: train.jsonl line 3, train.jsonl line 4" in str(error.value)
    assert str(error.value).endswith("and more)")
    assert len(str(error.value)) < 300


@given(lines=st.lists(st.sampled_from([GOOD, "", "broken"]), min_size=1, max_size=30))
def test_the_number_is_that_of_the_line_in_the_file(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = written(tmp_path_factory.mktemp("data"), "\n".join(lines))
    if "broken" in lines:
        with pytest.raises(InvalidDataset, match=rf"^train\.jsonl line {lines.index('broken') + 1}: "):
            read(data(folder))
    elif GOOD in lines:
        assert read(data(folder)).lines == lines.count(GOOD)


def test_an_empty_data_set(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    written(other, "hi", "notes.txt")
    with pytest.raises(InvalidDataset, match="no examples"):
        read(data(written(tmp_path, "\n\n")))
    with pytest.raises(InvalidDataset, match=r"no file to train on .* it has notes\.txt"):
        read(data(other))
    with pytest.raises(InvalidDataset, match="no file to train on"):
        read(data(tmp_path / "missing"))


def test_a_compressed_file_that_is_cut_off_or_damaged(tmp_path: Path) -> None:
    written(tmp_path, gzip.compress(f"{GOOD}\n".encode() * 1000)[:-20], "train.jsonl.gz")
    with pytest.raises(InvalidDataset, match=r"train\.jsonl\.gz after line \d+: not whole gzip data"):
        read(data(tmp_path))
    damaged = bytearray(gzip.compress("".join(f'{{"text": "{n * 7919}"}}\n' for n in range(2000)).encode(), mtime=0))
    damaged[15] ^= 255
    with pytest.raises(zlib.error):
        gzip.decompress(damaged)
    written(tmp_path, bytes(damaged), "train.jsonl.gz")
    with pytest.raises(InvalidDataset, match=r"train\.jsonl\.gz after line \d+: not whole gzip data"):
        read(data(tmp_path))
    written(tmp_path, "not gzip", "train.jsonl.gz")
    with pytest.raises(InvalidDataset, match="after line 0"):
        read(data(tmp_path))


def test_a_file_that_cannot_be_read_now_may_be_another_time(tmp_path: Path) -> None:
    """A volume whose server is away ends no job for good. A process's memory has nothing to read at its beginning."""
    (tmp_path / "train.jsonl").symlink_to("/proc/self/mem")
    with pytest.raises(TrainingFailed, match=r"^train\.jsonl: cannot be read: Input/output error$"):
        read(data(tmp_path))


@pytest.mark.parametrize(
    ("trained_on", "held_back"),
    [
        (["test.jsonl"], []),
        (["devops-questions.jsonl"], []),
        (["testimonials.jsonl", "train.jsonl"], []),
        (["a.jsonl", "evaluate-this.jsonl", "validity.jsonl"], []),
        (["a.jsonl"], ["dev.jsonl", "eval_2.jsonl", "test-00000-of-00001.jsonl", "test2.jsonl", "validation.jsonl.gz"]),
        (["x/a.jsonl"], ["x/test.jsonl"]),
        (["train/a.jsonl"], ["Test.jsonl", "VALIDATION/b.jsonl", "evals/x/c.jsonl", "test/a.jsonl", "tests.jsonl"]),
        (["contest/latest.jsonl", "devsite/a.jsonl", "evalsuite.jsonl"], []),
        (["test/a.jsonl"], []),
    ],
)
def test_files_for_judging_are_held_back_by_whole_words_and_told(
    tmp_path: Path, trained_on: list[str], held_back: list[str]
) -> None:
    line = f"{GOOD}\n".encode()
    for name in (*trained_on, *held_back):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        written(tmp_path, gzip.compress(line) if name.endswith(".gz") else line, name)
    examples = read(data(tmp_path))
    assert [place.removesuffix(" line 1") for place in examples.places] == trained_on
    assert list(examples.held_back) == held_back


def test_where_all_are_held_back_it_is_said(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "eval.jsonl")
    written(tmp_path, GOOD, "test.jsonl")
    with pytest.raises(InvalidDataset, match=r"it has eval\.jsonl, test\.jsonl, all held back by their names"):
        read(data(tmp_path))


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder, line in (("x", GOOD), ("y", "broken")):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder, line, "a.jsonl")
    with pytest.raises(InvalidDataset, match=r"^y/a\.jsonl line 1: not JSON"):
        read(data(tmp_path))


def test_every_example_knows_its_line(tmp_path: Path) -> None:
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    lines = [json.dumps({"messages": turn}), "", json.dumps({"messages": turn * 2})]
    examples = read(data(written(tmp_path, "\n".join(lines))))
    assert examples.places == ("train.jsonl line 1", "train.jsonl line 3", "train.jsonl line 3")
    assert len(examples.rows) == 3


def test_texts_and_messages_are_not_mixed(tmp_path: Path) -> None:
    chat = json.dumps(
        {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}
    )
    with pytest.raises(InvalidDataset, match="use one of the two throughout"):
        read(data(written(tmp_path, f"{GOOD}\n{chat}\n")))


def test_a_given_format_is_not_guessed(tmp_path: Path) -> None:
    row = '{"text": "t", "prompt": "p", "completion": "c"}\n'
    assert read(data(written(tmp_path, row), DatasetFormat.TEXT)).rows == ({"text": "t"},)


def test_a_broken_line_is_reported_without_loading_torch(tmp_path: Path) -> None:
    """The whole program, with its exit code and report; torch would take longer than everything else together."""
    written(tmp_path, f"{GOOD}\nbroken\n")
    config = {"job": "qa", "base": "/none", "dataset": {"path": str(tmp_path)}, "output": str(tmp_path / "out")}
    (tmp_path / "trainer.json").write_text(json.dumps(config))
    program = (
        "import sys\nfrom pilotboat_trainer.cli import main\n"
        f"code = main(['--config', {str(tmp_path / 'trainer.json')!r}])\n"
        "print('torch' in sys.modules or 'transformers' in sys.modules)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PYTHONPATH": f"{ROOT}/operator:{ROOT}/images/trainer",
            "PILOTBOAT_TERMINATION_LOG": str(tmp_path / "log"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    said = json.loads((tmp_path / "log").read_text())
    assert (done.returncode, done.stdout) == (64, "False\n")
    assert said["reason"] == "InvalidDataset"
    assert said["message"].startswith("train.jsonl line 2: not JSON")
