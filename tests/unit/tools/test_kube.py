"""The programs on the PATH that a cluster of the user's own is reached by."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import place
from tools.steps import StepFailed

OLD_KUBECTL = 'Client Version: version.Info{Major:"1", Minor:"19", GitVersion:"v1.19.3", GoVersion:"go1.15.2"}'
KUBECTL = "Client Version: v1.34.1\nKustomize Version: v5.7.1"


def named(folder: Path, kubectl: str, helm: str, monkeypatch: pytest.MonkeyPatch, context: str = "mine") -> None:
    """A cluster named where these programs tell such versions, and the kubeconfig has two contexts."""
    for name, told in (("kubectl", kubectl), ("helm", helm)):
        contexts = "case $1 in config) echo mine; echo 'team a'; exit;; esac"
        (folder / name).write_text(f"#!/bin/sh\n{contexts}\necho '{told}'\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    place.named(context, "default")


@pytest.mark.parametrize("helm", ["v3.13.0+g825e86f", "v4.2.4", "a build of my own"])
def test_new_ones_and_those_that_do_not_tell_are_taken(
    tmp_path: Path, helm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(tmp_path, KUBECTL, helm, monkeypatch)


@pytest.mark.parametrize(
    ("kubectl", "helm", "said"),
    [
        (OLD_KUBECTL, "v3.14.0", r"kubectl on the PATH is v1\.19, and v1\.20 or newer"),
        (KUBECTL, "v3.9.4+gdbc6d8e", r"helm on the PATH is v3\.9, and v3\.13 or newer"),
        (KUBECTL, "Client: v2.17.0+ga690bad", r"helm on the PATH is v2\.17"),
    ],
)
def test_older_ones_are_refused_before_anything_is_done(
    tmp_path: Path, kubectl: str, helm: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StepFailed, match=said):
        named(tmp_path, kubectl, helm, monkeypatch)


@pytest.mark.parametrize("context", ["mine", "team a"])
def test_a_context_that_is_there_is_taken(tmp_path: Path, context: str, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path, KUBECTL, "v4.2.4", monkeypatch, context)


@pytest.mark.parametrize("context", ["nonsense", "team", "min"])
def test_one_that_is_not_is_told_with_those_that_are(
    tmp_path: Path, context: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StepFailed, match=f"CONTEXT={context} is no context of your kubeconfig, which has mine, team a"):
        named(tmp_path, KUBECTL, "v4.2.4", monkeypatch, context)
