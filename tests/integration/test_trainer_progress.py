"""Progress posts over real TLS: who sends them, how often, and what happens when nobody listens."""

from __future__ import annotations

import dataclasses
import socket
from contextlib import closing
from pathlib import Path

import pytest

from pilotboat.api.runtime import ProgressPost
from pilotboat_trainer.poster import Poster, Server
from pilotboat_trainer.progress import Tracker
from standins import tiny
from standins.receiver import Receiver
from standins.training import Training


@pytest.fixture
def server(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path / "server")


def post(step: int) -> ProgressPost:
    return Tracker(total_steps=100, first_step=0, started=0.0, step=step).post(10.0)


def address(server: Receiver) -> Server:
    found = Server.of(server.environment)
    assert found
    return found


def test_the_newest_and_the_last_arrive_with_the_token_of_the_moment(server: Receiver) -> None:
    with server:
        poster = Poster(address(server), every=0.01)
        poster.post(post(1))
        server.wait_for(lambda posts: len(posts) == 1)
        server.token = "token-2\n"
        poster.post(post(2))
        server.wait_for(lambda posts: posts[-1].step == 2)
        poster.post(post(100))
        poster.close()
    assert [each.step for each in server.posts] == [1, 2, 100]
    assert [each.authorization for each in server.posts] == ["Bearer token-1", "Bearer token-2", "Bearer token-2"]


def test_posts_in_between_are_replaced_by_newer_ones(server: Receiver) -> None:
    with server:
        poster = Poster(address(server), every=3600)
        poster.post(post(1))
        server.wait_for(lambda posts: len(posts) == 1)
        for step in range(2, 50):
            poster.post(post(step))
        poster.close()
    assert [each.step for each in server.posts] == [1, 49]


def test_a_refused_post_is_sent_again_only_if_it_is_still_the_newest(server: Receiver) -> None:
    with server:
        server.status = 503
        poster = Poster(address(server), every=0.01)
        poster.post(post(1))
        server.wait_for(lambda posts: len(posts) >= 2)
        server.status = 200
        poster.post(post(2))
        server.wait_for(lambda posts: posts[-1].step == 2)
        poster.close()
    assert {each.step for each in server.posts[:2]} == {1}


def test_without_a_server_or_with_one_that_is_away_nothing_happens(server: Receiver, tmp_path: Path) -> None:
    assert Server.of({}) is None
    assert Server.of({"KUBEFLOW_TRAINER_SERVER_URL": "file:///etc/passwd"}) is None
    Poster(None).close()
    away = dataclasses.replace(address(server), url="https://127.0.0.1:9/")
    poster = Poster(away, every=0.01)
    poster.post(post(1))
    poster.close()


def test_a_proxy_in_the_environment_is_not_asked(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with server:
        poster = Poster(address(server), every=0.01)
        poster.post(post(1))
        poster.close()
    assert [each.step for each in server.posts] == [1]


def test_an_answer_that_is_no_http_ends_nothing(server: Receiver) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as odd:
        odd.settimeout(60)
        here = dataclasses.replace(address(server), url=f"http://127.0.0.1:{odd.getsockname()[1]}/", ca_file=None)
        poster = Poster(here, every=0.01)
        poster.post(post(1))
        for _ in range(2):  # the second is the proof: it is tried again
            with odd.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")
        odd.close()
        poster.close()


def test_a_server_with_somebody_elses_certificate_hears_nothing(server: Receiver, tmp_path: Path) -> None:
    with server, Receiver(tmp_path / "other") as other:
        poster = Poster(dataclasses.replace(address(server), ca_file=address(other).ca_file), every=0.01)
        poster.post(post(1))
        poster.close()
    assert server.posts == []


def test_a_whole_training_posts_its_way_and_only_once(server: Receiver, tmp_path: Path) -> None:
    """The library's own callback sees the same variables; it must not post beside ours."""
    base = tiny.make(tmp_path / "base")
    settings = {"training": {"maxSteps": 8, "learningRate": 0.01}, "checkpoints": {"everySteps": 4}}
    with server:
        code, output = Training(tmp_path / "job", base, **settings).run(server.environment)
    assert code == 0, output
    assert server.posts
    shares = [each.body["trainerStatus"]["progressPercentage"] for each in server.posts]
    assert shares == sorted(shares)
    assert shares[-1] == 100
    assert all(each.authorization == "Bearer token-1" for each in server.posts)
    assert all(set(each.body) == {"trainerStatus", "progress"} for each in server.posts)
    last = server.posts[-1].body
    assert last["progress"]["step"] == 8
    assert last["progress"]["lastCheckpoint"]["step"] == 8
    names = {metric["name"] for metric in last["trainerStatus"]["metrics"]}
    assert names == {"loss", "learning_rate", "grad_norm", "mean_token_accuracy", "tokens_per_second"}
    assert last["trainerStatus"]["estimatedRemainingSeconds"] == 0


def test_a_pod_that_finds_the_job_finished_says_so(server: Receiver, tmp_path: Path) -> None:
    """The one that finished it was cut off: without this word the record would stay at its last one."""
    job = Training(tmp_path / "job", tiny.make(tmp_path / "base"), training={"maxSteps": 2, "learningRate": 0.01})
    code, output = job.run()
    assert code == 0, output
    with server:
        code, output = job.run(server.environment)
    assert code == 0, output
    (told,) = [ProgressPost.model_validate(each.body) for each in server.posts]
    assert told.trainer_status is not None
    assert told.progress is not None
    assert told.trainer_status.progress_percentage == 100
    assert (told.progress.step, told.progress.total_steps) == (2, 2)
