"""Questions and answers from a small OpenAPI document, in both versions of the format."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import corpus

DEPLOYMENT = "io.k8s.api.apps.v1.Deployment"
SPEC = "io.k8s.api.apps.v1.DeploymentSpec"
STRATEGY = "io.k8s.api.apps.v1.DeploymentStrategy"


def schemas(prefix: str, wrapped: bool) -> dict[str, Any]:
    def reference(name: str, description: str) -> dict[str, Any]:
        target = {"$ref": f"{prefix}{name}"}
        return {"allOf": [target], "description": description} if wrapped else {**target, "description": description}

    kind = [{"group": "apps", "kind": "Deployment", "version": "v1"}]
    return {
        DEPLOYMENT: {
            "x-kubernetes-group-version-kind": kind,
            "properties": {
                "apiVersion": {"description": "APIVersion defines the versioned schema of this representation."},
                "spec": reference(SPEC, "Specification of the desired behavior of the Deployment."),
            },
        },
        SPEC: {
            "properties": {
                "replicas": {"description": "Number of desired pods.  Defaults to 1. More info: https://example.org/x"},
                "paused": {"description": "Indicates that the deployment is paused"},
                "strategy": reference(STRATEGY, "The strategy to use to replace existing pods with new ones."),
                "short": {"description": "Too short."},
                "same": {"description": "Number of desired pods. Defaults to 1."},
            }
        },
        STRATEGY: {"properties": {"type": {"description": "Type of deployment, Recreate or RollingUpdate."}}},
    }


@pytest.fixture(params=[2, 3])
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == 2:
        return {"swagger": "2.0", "definitions": schemas("#/definitions/", wrapped=False)}
    return {"openapi": "3.0.0", "components": {"schemas": schemas("#/components/schemas/", wrapped=True)}}


def answers(document: dict[str, Any]) -> dict[str, str]:
    return {pair.question: pair.answer for pair in corpus.pairs(document)}


def test_fields_are_asked_for_by_their_path(document: dict[str, Any]) -> None:
    found = answers(document)
    paths = {path: answer for question, answer in found.items() for path in question.split() if "spec." in path}
    assert {path.strip("?.") for path in paths} == {
        "spec.paused",
        "spec.replicas",
        "spec.strategy",
        "spec.strategy.type",
    }
    assert "Number of desired pods. Defaults to 1." in found.values()
    assert "Indicates that the deployment is paused." in found.values()


def test_no_answer_and_no_question_twice_and_nothing_short(document: dict[str, Any]) -> None:
    found = corpus.pairs(document)
    assert len({pair.answer.casefold() for pair in found}) == len({pair.question for pair in found}) == len(found)
    assert all(corpus.SHORTEST <= len(pair.answer) <= corpus.LONGEST + 1 for pair in found)
    assert not any("apiVersion" in pair.question for pair in found)


def test_a_newer_api_does_not_speak_for_a_stable_kind() -> None:
    both = schemas("#/definitions/", wrapped=False)
    beta = {"apiVersion": {}, "spec": {"description": "The specification as the beta version words it."}}
    kind = [{"group": "apps", "kind": "Deployment", "version": "v1beta1"}]
    both["io.k8s.api.apps.v1beta1.Deployment"] = {"properties": beta, "x-kubernetes-group-version-kind": kind}
    first = corpus.pairs({"definitions": both})[0]
    assert first.answer == "Specification of the desired behavior of the Deployment."


@pytest.mark.parametrize(
    ("description", "answer"),
    [
        ("One thing.\n\n  Another thing.", "One thing. Another thing."),
        ("It does this. More info: https://kubernetes.io/docs/x/#y", "It does this."),
        ("It does (https://a.b/c) this", "It does this."),
        ("Deprecated: use x. It did that.", "It did that."),
        ("Words. " * 100, " ".join(["Words."] * 45)),
        ("x" * 1000, ""),
        ("", ""),
    ],
)
def test_descriptions_become_answers(description: str, answer: str) -> None:
    assert corpus.clean(description) == answer


def test_files_are_the_same_every_time_and_split_without_overlap(tmp_path: Path) -> None:
    definitions = {
        f"io.k8s.api.x.v1.Type{number}": {
            "properties": {"field": {"description": f"The field of type {number}, described at some length."}}
        }
        for number in range(300)
    }
    document = {"definitions": definitions}
    count = corpus.write(document, tmp_path / "a")
    assert corpus.write(json.loads(json.dumps(document)), tmp_path / "b") == count
    train, held_back = ((tmp_path / "a" / f"{name}.jsonl").read_text() for name in ("train", "eval"))
    assert (tmp_path / "b" / "train.jsonl").read_text() == train
    assert not set(train.splitlines()) & set(held_back.splitlines())
    assert len(train.splitlines()) == count
    assert count + len(held_back.splitlines()) == 300
    assert 5 <= len(held_back.splitlines()) <= 30
    assert json.loads(train.splitlines()[0])["messages"][0]["role"] == "user"
    assert corpus.write(document, tmp_path / "c", max_bytes=1000) == len(
        (tmp_path / "c" / "train.jsonl").read_text().splitlines()
    )
    assert (tmp_path / "c" / "train.jsonl").stat().st_size <= 1000


def test_what_is_no_document_is_refused() -> None:
    with pytest.raises(ValueError, match="no OpenAPI document"):
        corpus.pairs({"kind": "Status"})


def test_the_command_reads_standard_input(document: dict[str, Any], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.corpus", "-", str(tmp_path)],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert "pairs to train on" in done.stdout
    assert (tmp_path / "train.jsonl").exists()
