"""The pure parts: CPU threads, model files, stop strings, quantiles, configuration, JSON depth."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotboat.api.engines import EngineType
from pilotboat_server import config, cpu, modelfiles
from pilotboat_server.errors import InvalidConfig, InvalidModel
from pilotboat_server.phases import Life
from pilotboat_server.stops import StopMatcher
from pilotboat_server.window import Window


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def topology(*siblings: str) -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": text for cpu, text in enumerate(siblings)}


HYPERTHREADED = topology("0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7")


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({}, 8),
        (HYPERTHREADED, 4),
        (HYPERTHREADED | {"sys/fs/cgroup/cpu.max": "max 100000"}, 4),
        (HYPERTHREADED | {"sys/fs/cgroup/cpu.max": "250000 100000"}, 2),
        (HYPERTHREADED | {"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        (
            HYPERTHREADED
            | {"proc/self/cgroup": "0::/pods/one", "sys/fs/cgroup/pods/cpu.max": "300000 100000"}
            | {"sys/fs/cgroup/pods/one/cpu.max": "max 100000"},
            3,
        ),
        (
            HYPERTHREADED
            | {"proc/self/cgroup": "9:memory:/x\n4:cpu,cpuacct:/docker/abc"}
            | {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "200000"}
            | {"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000"},
            2,
        ),
        (
            HYPERTHREADED
            | {"proc/self/cgroup": "1:cpu:/"}
            | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
            4,
        ),
    ],
)
def test_threads_are_physical_cores_within_the_quota(tmp_path: Path, files: dict[str, str], threads: int) -> None:
    assert cpu.default_threads(lay_out(tmp_path, files), range(8)) == threads


def test_only_allowed_cpus_count(tmp_path: Path) -> None:
    assert cpu.default_threads(lay_out(tmp_path, HYPERTHREADED), {0, 4, 5}) == 2


def test_this_machine_has_a_thread() -> None:
    assert cpu.default_threads() >= 1


def safetensors(tensors: dict[str, list[int]], data: bytes = b"") -> bytes:
    header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": ends} for name, ends in tensors.items()})
    return struct.pack("<Q", len(header)) + header.encode() + data


GOOD = {"config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}", "model.safetensors": safetensors({})}
GGUF = {"a.gguf": b"GGUF\x03\0\0\0rest"}


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.mark.parametrize(("files", "engine"), [(GOOD, EngineType.TRANSFORMERS), (GGUF, EngineType.LLAMA_CPP)])
def test_auto_takes_the_engine_that_reads_the_files(
    tmp_path: Path, files: dict[str, bytes], engine: EngineType
) -> None:
    assert modelfiles.inspect(folder(tmp_path, files), EngineType.AUTO).engine is engine


@pytest.mark.parametrize(
    ("files", "adapted", "engine"),
    [
        (GOOD | GGUF, False, EngineType.LLAMA_CPP),
        (GOOD | GGUF, True, EngineType.TRANSFORMERS),
        (GGUF, True, EngineType.LLAMA_CPP),
    ],
)
def test_of_a_base_with_both_an_adapter_takes_the_safetensors(
    tmp_path: Path, files: dict[str, bytes], adapted: bool, engine: EngineType
) -> None:
    """And of one with a GGUF alone the engine says why it cannot."""
    assert modelfiles.inspect(folder(tmp_path, files), EngineType.AUTO, adapted=adapted).engine is engine


def test_a_gguf_file_is_taken_by_its_path_and_from_its_folder(tmp_path: Path) -> None:
    file = folder(tmp_path, GGUF) / "a.gguf"
    assert modelfiles.inspect(tmp_path, EngineType.AUTO).path == file
    assert modelfiles.inspect(file, EngineType.AUTO).path == file


def test_a_split_gguf_is_named_by_its_first_part(tmp_path: Path) -> None:
    parts = {f"m-0000{part}-of-00002.gguf": GGUF["a.gguf"] for part in (1, 2)}
    assert modelfiles.inspect(folder(tmp_path, parts), EngineType.AUTO).path.name == "m-00001-of-00002.gguf"


BELOW = {f"hf/{name}": data for name, data in GOOD.items()}


@pytest.mark.parametrize(
    ("files", "wanted", "found"),
    [
        (
            {"README.txt": b"", "config.json": b"{}", "Q4/x.Q4_K_M.gguf": GGUF["a.gguf"]},
            EngineType.AUTO,
            "Q4/x.Q4_K_M.gguf",
        ),
        (
            {f"Q8/deep/m-0000{part}-of-00002.gguf": GGUF["a.gguf"] for part in (1, 2)},
            EngineType.LLAMA_CPP,
            "Q8/deep/m-00001-of-00002.gguf",
        ),
        (BELOW, EngineType.AUTO, "hf"),
        (BELOW | GGUF, EngineType.AUTO, "a.gguf"),
        (BELOW | GGUF, EngineType.TRANSFORMERS, "hf"),
        (GOOD | {"Q4/a.gguf": GGUF["a.gguf"]}, EngineType.AUTO, "."),
    ],
)
def test_where_nothing_lies_above_the_one_folder_with_weights_is_taken(
    tmp_path: Path, files: dict[str, bytes], wanted: EngineType, found: str
) -> None:
    assert modelfiles.inspect(folder(tmp_path, files), wanted).path == tmp_path / found


@pytest.mark.parametrize(
    ("files", "engine", "words"),
    [
        ({}, EngineType.AUTO, ["neither a GGUF file nor safetensors", "found nothing"]),
        ({"pytorch_model.bin": b"x"}, EngineType.AUTO, ["pytorch_model.bin"]),
        ({"a.gguf": b"<html>oh no"}, EngineType.AUTO, ["not a GGUF file", "<htm"]),
        ({"a.gguf": b"GGUF"}, EngineType.AUTO, ["cut off"]),
        ({"a.gguf": b"GGUF\x63\0\0\0"}, EngineType.AUTO, ["version"]),
        (GGUF | {"b.gguf": GGUF["a.gguf"]}, EngineType.AUTO, ["2 GGUF models (a.gguf, b.gguf)", "`files`"]),
        (
            {f"{name}/a.gguf": GGUF["a.gguf"] for name in ("Q4", "Q8")},
            EngineType.AUTO,
            ["weights in 2 folders (Q4, Q8)", "`files`"],
        ),
        (GGUF, EngineType.TRANSFORMERS, ["no safetensors"]),
        (GOOD, EngineType.LLAMA_CPP, ["no GGUF file", "model.safetensors"]),
        (GOOD | {"model.safetensors": b"junk"}, EngineType.AUTO, ["not a safetensors file"]),
        (GOOD | {"model.safetensors": struct.pack("<Q", 4) + b"junk"}, EngineType.AUTO, ["does not parse"]),
        (GOOD | {"model.safetensors": safetensors({"a": [0, 8]}, b"1234")}, EngineType.AUTO, ["cut off"]),
        (GOOD | {"config.json": b"{"}, EngineType.AUTO, ["config.json", "not JSON"]),
        (GOOD | {"config.json": b"{}"}, EngineType.AUTO, ["model_type"]),
        ({k: v for k, v in GOOD.items() if k != "config.json"}, EngineType.AUTO, ["config.json", "missing"]),
        ({k: v for k, v in GOOD.items() if k != "tokenizer.json"}, EngineType.AUTO, ["no tokenizer"]),
        (
            GOOD | {"model.safetensors.index.json": b'{"weight_map": {"a": "gone.safetensors"}}'},
            EngineType.AUTO,
            ["gone.safetensors"],
        ),
    ],
)
def test_files_that_are_no_model_are_named(
    tmp_path: Path, files: dict[str, bytes], engine: EngineType, words: list[str]
) -> None:
    with pytest.raises(InvalidModel) as caught:
        modelfiles.inspect(folder(tmp_path, files), engine)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="does not exist"):
        modelfiles.inspect(tmp_path / "gone", EngineType.AUTO)


@given(st.lists(st.text("abc", max_size=4), max_size=12), st.lists(st.text("abc", min_size=1, max_size=3), max_size=3))
def test_stop_strings_cut_where_a_search_of_the_whole_would(pieces: list[str], stops: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown = "".join(matcher.feed(piece) for piece in pieces) + matcher.flush()
    whole = "".join(pieces)
    ends = [whole.find(stop) for stop in stops if stop in whole]
    if not ends:
        assert shown == whole
        assert not matcher.stopped
    else:
        assert matcher.stopped
        assert whole.startswith(shown)
        assert not any(stop in shown for stop in stops)


def test_text_is_held_only_while_it_may_be_a_stop() -> None:
    matcher = StopMatcher(["END"])
    assert [matcher.feed(piece) for piece in ("a E", "N", "x", "EN", "D")] == ["a ", "", "ENx", "", ""]
    assert matcher.stopped


def test_quantiles_are_of_the_window_alone() -> None:
    window = Window(seconds=10, samples=100)
    for at in range(200):
        window.add(at / 10, float(at))
    assert window.quantiles(20.0, [0.5, 0.9, 0.99, 1.0]) == [149.0, 189.0, 198.0, 199.0]
    assert math.isnan(window.quantiles(100.0, [0.5])[0])


def test_phases_record_how_long_the_start_took() -> None:
    life = Life(10.0)
    life.enter("warming", 12.0)
    life.enter("serving", 12.5)
    health = life.health(20.0, 1, 2, False)
    assert (health.startup_seconds, health.elapsed_seconds, health.phase_seconds) == (
        {"loading": 2.0, "warming": 0.5},
        10.0,
        7.5,
    )


def test_yaml_in_either_spelling_is_read(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("model: {path: /m}\ninference: {batch_size: 2, maxLength: 64}\nservice: {port: 1234}\n")
    loaded = config.load(path)
    assert (loaded.inference.batch_size, loaded.inference.max_length, loaded.service.port) == (2, 64, 1234)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {path: /m}\ninference: {batchSize: 0, wrong: 1}", ["inference.batchSize", "inference.wrong"]),
        ("{", ["neither JSON nor YAML"]),
        ("[]", ["file"]),
        ("model: {path: /m}\ninference: {limits: {temperature: {min: 0.9, max: 1}}}", ["inference", "must be within"]),
    ],
)
def test_a_wrong_config_names_its_fields(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        config.load(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_environment_is_read() -> None:
    read = config.Environment.read({"PILOTBOAT_API_KEYS": " a \n\nb\n", "PILOTBOAT_DRAIN_SECONDS": "5"})
    assert (read.api_keys, read.drain_seconds, read.stall_seconds) == (("a", "b"), 5.0, 300.0)


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "-1"])
def test_a_time_that_is_none_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(InvalidConfig, match="PILOTBOAT_STALL_SECONDS"):
        config.Environment.read({"PILOTBOAT_STALL_SECONDS": text})


@pytest.mark.parametrize("content", [b"model: {path: \xff}", b"inference: {maxLength: 2024-02-30}", b"[" * 5000])
def test_a_config_that_no_parser_can_read_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "server.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidConfig, match=f"config file {path} is n"):
        config.load(path)


@pytest.mark.parametrize("keys", ["", " ", "\n  \n"])
def test_a_variable_for_keys_without_one_is_no_open_door(keys: str) -> None:
    assert config.Environment.read({}).api_keys == ()
    with pytest.raises(InvalidConfig, match="PILOTBOAT_API_KEYS holds no key"):
        config.Environment.read({"PILOTBOAT_API_KEYS": keys})
