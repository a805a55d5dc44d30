"""Which login the pods of a user's own cluster are given: that to the registry, and no other of the file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tools import pullsecret
from tools.steps import StepFailed

TEAM = {"auth": "dGVhbTpzZWNyZXQ="}
OTHER = {"auth": "b3RoZXI6c2VjcmV0"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "auth.json"
    monkeypatch.setenv(pullsecret.FILE, str(path))
    return path


@pytest.mark.parametrize(
    ("name", "registry", "meant"),
    [
        ("registry:5000", "registry:5000/team", True),
        ("registry:5000/team", "registry:5000/team/", True),
        ("https://registry:5000/v2/", "registry:5000/team", True),
        ("registry:5000/other", "registry:5000/team", False),
        ("registry:5000/te", "registry:5000/team", False),
        ("registry", "registry:5000/team", False),
        ("https://index.registry.test/v1/", "registry.test/team", True),
        ("https://index.registry.test/v1/", "index.registry.test/team", True),
        ("https://index.registry.test/v1/", "team", True),
        ("https://index.registry.test/v1/", "elsewhere.test/team", False),
        ("https://index.registry.test/v1/", "localhost/team", False),
        ("https://index.registry.test/v2/", "team", False),
        ("https://registry.test/v1/", "team", False),
    ],
)
def test_the_registrys_own_login_is_found(file: Path, name: str, registry: str, meant: bool) -> None:
    file.write_text(json.dumps({"auths": {name: TEAM, "elsewhere": OTHER}}))
    assert pullsecret.logins(registry) == ({name: TEAM} if meant else {})


def test_one_that_is_kept_elsewhere_cannot_be_given(file: Path) -> None:
    file.write_text(json.dumps({"auths": {"registry": {}}, "credsStore": "keychain"}))
    assert pullsecret.logins("registry/team") == {}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"auths": 5}'])
def test_a_file_that_is_none_is_named(file: Path, content: str) -> None:
    file.write_text(content)
    with pytest.raises(StepFailed, match=r"REGISTRY_AUTH_FILE: .*auth\.json"):
        pullsecret.logins("registry/team")


def test_without_a_file_there_is_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(pullsecret.FILE, raising=False)
    assert pullsecret.logins("registry/team") == {}


def test_a_file_that_lacks_it_is_told_apart_from_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "has no login to registry.test/team" in pullsecret.without("registry.test/team")
    monkeypatch.delenv(pullsecret.FILE)
    assert "is not set" in pullsecret.without("registry.test/team")


def test_the_secret_is_one_that_kubelet_takes() -> None:
    made: dict[str, Any] = pullsecret.secret({"registry": TEAM}, "ml")
    assert made["type"] == "kubernetes.io/dockerconfigjson"
    assert json.loads(base64.b64decode(made["data"][".dockerconfigjson"])) == {"auths": {"registry": TEAM}}
