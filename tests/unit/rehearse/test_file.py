"""The file of a rehearsal: every mistake is one clear error that names the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotboat.rehearse import file
from pilotboat.rehearse.errors import BadFile

ROOT = Path(__file__).parents[3]
KILL: dict[str, Any] = {"name": "the engine dies", "kind": "killProcess", "for": 20}
CUT: dict[str, Any] = {"name": "a node goes", "kind": "cutNode", "cut": ["cut", "{node}"], "heal": ["heal", "{node}"]}


def asked(**more: Any) -> str:
    return yaml.safe_dump({"deployment": {"namespace": "team", "name": "chat"}, "faults": [KILL], **more})


def test_the_least_that_a_file_needs() -> None:
    found = file.parse(asked())
    assert (found.limit.replicas, found.limit.nodes, found.limit.zones) == (1, 1, 0)
    assert found.faults[0].seconds == 20
    assert isinstance(found.faults[0], file.KillProcess)


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "rehearsals").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_rehearsals(path: Path) -> None:
    assert file.load(path).faults


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"deployment": {"name": "chat"}}, "deployment.namespace", "Field required"),
        ({"faults": []}, "faults", "at least 1"),
        ({"faults": [{**KILL, "kind": "burnDown"}]}, "faults.0", "'killProcess', 'deletePod'"),
        ({"faults": [{**KILL, "for": 0}]}, "faults.0.for", "greater than 0"),
        ({"faults": [KILL, {**KILL, "for": 121}]}, "faults.1.for", "above limit.seconds 120"),
        ({"faults": [{**KILL, "process": "init"}]}, "faults.0.process", "'engine' or 'worker'"),
        ({"faults": [{k: v for k, v in CUT.items() if k != "heal"}]}, "faults.0.heal", "Field required"),
        ({"faults": [{**CUT, "cut": []}]}, "faults.0.cut", "at least 1"),
        ({"faults": [{"name": "full", "kind": "fullDisk"}]}, "faults.0.bytes", "Field required"),
        ({"faults": [{"name": "full", "kind": "fullDisk", "bytes": "1.5Gi"}]}, "faults.0.bytes", "number of bytes"),
        ({"faults": [{"name": "full", "kind": "fullDisk", "bytes": 0}]}, "faults.0.bytes", "at least|between|one byte"),
        ({"faults": [{**KILL, "promise": {"lots": 1}}]}, "faults.0.promise.lots", "Extra inputs"),
        ({"limit": {"zones": 2}}, "limit.zones", "less than or equal to 1"),
        ({"load": {"requestsPerSecond": 0, "streams": 0}}, "load", "nothing would be measured"),
        ({"load": {"requestsPerSecond": 5000}}, "load.requestsPerSecond", "less than or equal to 200"),
        ({"load": {"url": "http://a.example", "via": "Service"}}, "load", "url or via"),
        ({"load": {"url": "http://me:secret@a.example"}}, "load.url", "credentials do not belong"),
        ({"load": {"url": "http://a.example/x?key=1"}}, "load.url", "without [?] and #"),
        ({"faults": [{**CUT, "heal": ["heal", "a\0b"]}]}, "faults.0.heal.1", "NUL"),
        ({"load": {"apiKey": {}}}, "load.apiKey", "exactly one of file, env"),
        ({"load": {"apiKey": "sk-123"}}, "load.apiKey", "valid dictionary"),
        ({"control": {"deployment": "bare", "service": "bare", "url": "http://b.example"}}, "", "go together"),
        (
            {"load": {"via": "PortForward"}, "control": {"deployment": "b", "service": "b"}},
            "",
            "port-forward goes round",
        ),
        ({"weather": "bad"}, "weather", "Extra inputs"),
    ],
)
def test_a_mistake_is_told_by_its_field(changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(BadFile, match=words) as caught:
        file.parse(asked(**changes))
    assert str(caught.value).startswith(f"file: {field}"), str(caught.value)


def test_a_key_in_the_file_is_not_repeated_in_the_error() -> None:
    with pytest.raises(BadFile) as caught:
        file.parse(asked(load={"apiKey": "sk-very-secret"}))
    assert "sk-very-secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "a: [", "just words"])
def test_what_is_no_rehearsal_at_all(text: str) -> None:
    with pytest.raises(BadFile, match=r"not YAML|has the fields"):
        file.parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wait: 2024-02-30", "line 1: .*day is out of range"),
        ("limit:\n  seconds: 0x_", "line 2: .*invalid literal"),
        (f"wait: {'1' * 5000}", "line 1: .*digits"),
        ("wait: !!timestamp soon", "line 1: "),
        ("[" * 5000, "nested more deeply"),
        ("limit: {zones: 0}\nlimit: {zones: 1}", "line 2: limit stands twice"),
        ("faults:\n- {for: 1, for: 2}", "line 2: for stands twice"),
    ],
)
def test_what_yaml_stumbles_over_or_takes_in_silence(text: str, words: str) -> None:
    with pytest.raises(BadFile, match=f"^file: .*{words}"):
        file.parse(text)


def test_a_merge_may_set_a_key_anew() -> None:
    with pytest.raises(BadFile, match="b: Extra") as caught:
        file.parse("a: &a {zones: 0}\nb: {<<: *a, zones: 1}")
    assert "twice" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="No such file"):
        file.load(tmp_path / "none.yaml")
