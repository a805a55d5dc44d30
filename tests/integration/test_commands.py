"""`pilotboat rollout` and `pilotboat ab` on a real API server: what they write, what they refuse, what they may."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import procs
from lab.kube import Client
from pilotboat import cli
from pilotboat.api.labels import API_VERSION
from pilotboat.api.rollout import Verb

Raw = dict[str, Any]
CANARY = {"phase": "AwaitingApproval", "stable": "aaaaaaaa", "canary": "bbbbbbbb", "weight": 50, "message": "waiting"}
TIMES = {"since": "2026-05-01T12:00:00Z", "time": "2026-05-01T12:30:00Z"}
POSTS = {"stable": {"posts": {"up": 30, "down": 70}}, "canary": {"posts": {"up": 60, "down": 40}}}


@dataclass
class Shop:
    """A namespace with ModelDeployment `chat`, which has steps and, where it is told so, a canary."""

    kubeconfig: Path
    client: Client
    namespace: str

    @property
    def path(self) -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/modeldeployments"

    def status(self, **status: Any) -> None:
        self.client.merge(f"{self.path}/chat/status", {"status": status})

    @property
    def rollout(self) -> Raw:
        found: Raw = self.client.get(f"{self.path}/chat")["spec"]["rollout"]
        return found

    def run(self, *arguments: str, kubeconfig: Path | None = None) -> int:
        where = ["-n", self.namespace, "--kubeconfig", str(kubeconfig or self.kubeconfig)]
        return cli.main([*arguments, *where])


@pytest.fixture
def shop(plane: Path) -> Shop:
    made = Shop(plane, Client.load(plane), f"commands-{uuid.uuid4().hex[:6]}")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": made.namespace}}
    made.client.call("POST", "/api/v1/namespaces", namespace)
    spec = {"model": {"source": {"huggingFace": {"repo": "a/b"}}}, "rollout": {"steps": [{"weight": 50}]}}
    body = {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": {"name": "chat"}, "spec": spec}
    made.client.call("POST", made.path, body)
    return made


@pytest.mark.parametrize("verb", Verb)
def test_a_verb_is_an_action_with_a_new_id(shop: Shop, verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    shop.status(rollout=CANARY | ({"phase": "Aborted"} if verb is Verb.RETRY else {}))
    ids = set()
    for _ in range(2):
        assert shop.run("rollout", verb.lower(), "chat") == 0
        assert shop.rollout["action"]["verb"] == verb
        assert shop.rollout["action"]["revision"] == "bbbbbbbb", "the canary that was read"
        ids.add(shop.rollout["action"]["id"])
    assert len(ids) == 2
    assert shop.rollout["steps"] == [{"weight": 50}], "nothing else of the spec is touched"
    assert f"{verb.lower()}: written to spec.rollout of chat for revision bbbbbbbb" in capsys.readouterr().out
    assert shop.run("rollout", verb.lower(), "chat", "--revision", "bbbbbbbb") == 0
    assert shop.rollout["action"]["id"] not in ids


def test_pause_resume_and_undo(shop: Shop) -> None:
    assert shop.run("rollout", "pause", "chat") == 0
    assert shop.rollout["paused"] is True
    assert shop.run("rollout", "resume", "chat") == 0
    assert shop.rollout["paused"] is False
    shop.status(currentRevision="bbbbbbbb", revisions=["aaaaaaaa", "bbbbbbbb"])
    assert shop.run("rollout", "undo", "chat") == 0
    assert shop.rollout["rollbackTo"] == "aaaaaaaa"
    assert shop.run("rollout", "undo", "chat", "--to", "0123abcd") == 0
    assert shop.rollout["rollbackTo"] == "0123abcd"


def test_who_looked_at_another_canary_writes_nothing(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.status(rollout=CANARY)
    assert shop.run("rollout", "promote", "chat", "--revision", "cccccccc") == 1
    assert "the canary is bbbbbbbb, and not cccccccc" in capsys.readouterr().err
    shop.status(rollout=CANARY | {"phase": "Draining"}, updateRevision="cccccccc")
    assert shop.run("rollout", "promote", "chat") == 1
    assert "bbbbbbbb is on its way out, for cccccccc was pushed" in capsys.readouterr().err
    assert "action" not in shop.rollout
    assert shop.run("rollout", "promote", "chat", "--revision", "cccccccc") == 0
    assert shop.rollout["action"]["revision"] == "cccccccc"


def test_a_verb_that_would_change_nothing_is_refused(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.status(rollout=CANARY | {"phase": "Progressing"})
    assert shop.run("rollout", "approve", "chat") == 1
    assert "the step at 50 % waits for no approval" in capsys.readouterr().err
    assert "action" not in shop.rollout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rollout", "approve", "chat"), "no rollout with steps is under way"),
        (("rollout", "undo", "chat"), "no earlier revision is kept"),
        (("rollout", "undo", "chat", "--to", "latest"), "8 digits as in status.revisions"),
        (("rollout", "skip", "chat", "--to", "0123abcd"), "--to goes with undo only"),
        (("rollout", "pause", "chat", "--revision", "0123abcd"), "--revision goes with approve, skip, promote, abort"),
        (("rollout", "status", "nobody"), "there is no ModelDeployment nobody in namespace"),
        (("ab", "nobody"), "there is no ModelDeployment nobody in namespace"),
        (("ab", "chat"), "no rollout with steps is under way"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_said_and_nothing_written(
    shop: Shop, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shop.rollout
    assert shop.run(*arguments) == 1
    printed = capsys.readouterr()
    assert words in printed.err
    assert "Traceback" not in printed.err
    assert (printed.out, shop.rollout) == ("", before)


def test_a_pause_without_steps_is_refused_by_the_api_server(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.client.merge(f"{shop.path}/chat", {"spec": {"rollout": None}})
    assert shop.run("rollout", "pause", "chat") == 1
    assert "paused is for rollouts with steps" in capsys.readouterr().err


def test_no_terminal_obeys_what_a_status_says(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.status(rollout=CANARY | {"message": "the query says \x1b[2J"})
    assert shop.run("rollout", "status", "chat") == 0
    said = capsys.readouterr().out
    assert "the query says \\x1b[2J\n" in said
    assert "\x1b" not in said


def test_who_may_only_look_is_told_so(shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop.status(rollout=CANARY | {"outcomes": POSTS | TIMES})
    limited = reader(shop, tmp_path)
    assert shop.run("rollout", "status", "chat", kubeconfig=limited) == 0
    assert "canary    bbbbbbbb   AwaitingApproval, 50 % of the traffic" in capsys.readouterr().out
    assert shop.run("ab", "chat", kubeconfig=limited) == 0
    assert "up       30.0 %  60.0 %  +30.0   +16.3 to +42.2  settled" in capsys.readouterr().out
    assert shop.run("rollout", "approve", "chat", kubeconfig=limited) == 1
    assert 'cannot patch resource "modeldeployments"' in capsys.readouterr().err
    assert "action" not in shop.rollout


def reader(shop: Shop, folder: Path) -> Path:
    """A kubeconfig of an account that may get ModelDeployments, and nothing else."""
    rbac, core = (
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{shop.namespace}",
        f"/api/v1/namespaces/{shop.namespace}",
    )
    meta = {"metadata": {"name": "reader"}}
    rule = {"apiGroups": ["pilotboat.dev"], "resources": ["modeldeployments"], "verbs": ["get"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    subject = {"kind": "ServiceAccount", "name": "reader", "namespace": shop.namespace}
    shop.client.call("POST", f"{core}/serviceaccounts", meta)
    shop.client.call("POST", f"{rbac}/roles", meta | {"rules": [rule]})
    shop.client.call("POST", f"{rbac}/rolebindings", meta | {"roleRef": role, "subjects": [subject]})
    verb = {"group": "pilotboat.dev", "resource": "modeldeployments", "verb": "get", "namespace": shop.namespace}
    spec = {"user": f"system:serviceaccount:{shop.namespace}:reader", "resourceAttributes": verb}
    reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    procs.wait_until(  # the API server reads its own rules a moment after they are written
        lambda: shop.client.call("POST", reviews, {"spec": spec})["status"]["allowed"],
        what="The right to look",
        timeout=60,
    )
    token = shop.client.call("POST", f"{core}/serviceaccounts/reader/token", {"spec": {}})["status"]["token"]
    config = json.loads(shop.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = folder / "reader.json"
    path.write_text(json.dumps(config))
    return path
