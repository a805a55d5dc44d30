"""Servers that a download can meet: ones that cut, forget, contradict themselves, refuse, or ask for patience."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from pilotboat.api.sources import HuggingFace
from pilotboat_fetch import hubapi
from pilotboat_fetch.download import Downloader, bare
from pilotboat_fetch.errors import (
    ChecksumMismatch,
    DownloadFailed,
    DownloadStalled,
    FetchError,
    HubAuthFailed,
    HubRateLimited,
    SourceNotFound,
)
from pilotboat_fetch.files import Wanted
from pilotboat_fetch.hub import HubSource
from pilotboat_fetch.progress import Progress
from pilotboat_fetch.retry import Backoff
from standins.hub import Fault, Hub
from standins.scripted import Answer, Asked, Scripted

ROOT = Path(__file__).parents[2]
BODY = bytes(range(256)) * 400
COMMIT = "1" * 40
ENDLESS = 200
"""Waits from which on a test takes it that there is no end."""

Script = Callable[[Asked], Answer]


class Fetching:
    """One file from scripted servers; nothing waits."""

    def __init__(self, target: Path, open_servers: ExitStack) -> None:
        self._target, self._open = target, open_servers
        self.waits = 0
        self.now = 0.0
        self.servers: list[Scripted] = []
        self.progress = Progress("model", io.StringIO())
        self.backoff = Backoff(sleep=self._sleep, clock=lambda: self.now, say=self.progress.say)

    def get(self, *scripts: Script, sha256: str = hashlib.sha256(BODY).hexdigest(), patience: float = 0.0) -> bytes:
        self.servers = [self._open.enter_context(Scripted(script)) for script in scripts]
        file = Wanted("m.gguf", len(BODY), sha256)
        with httpx.Client(follow_redirects=True) as client:
            downloader = Downloader(client, replace(self.backoff, patience=patience), self.progress)
            digest = downloader.fetch(file, [f"{server.url}/m.gguf" for server in self.servers], self._target)
        assert digest == sha256
        assert self.progress.done == len(BODY), "what was thrown away is not counted as done"
        return self._target.read_bytes()

    def asked(self) -> list[int]:
        return [len(server.seen) for server in self.servers]

    def ranges(self) -> list[str | None]:
        return [asked.headers.get("range") for asked in self.servers[0].seen]

    def _sleep(self, seconds: float) -> None:
        self.waits += 1
        assert self.waits < ENDLESS, "it never ends"


@pytest.fixture
def fetching(tmp_path: Path) -> Iterator[Fetching]:
    with ExitStack() as servers:
        yield Fetching(tmp_path / "part", servers)


def whole(asked: Asked) -> Answer:
    return Answer(body=BODY)


def refused(status: int) -> Script:
    return lambda asked: Answer(status)


def cutting(most: int, tag: str | None = '"a"') -> Script:
    """Every answer ends after so many bytes; without a tag each begins at the beginning."""

    def answer(asked: Asked) -> Answer:
        if tag is None:
            return Answer(body=BODY, sent=most)
        rest = BODY[asked.start :]
        part = {"content-range": f"bytes {asked.start}-{len(BODY) - 1}/{len(BODY)}"} if asked.start else {}
        return Answer(206 if part else 200, rest, {"etag": tag, **part}, most if most < len(rest) else None)

    return answer


def lengthening(*lengths: int) -> Script:
    """No tag, and answers of these lengths; whole ones after that."""
    left = iter(lengths)
    return lambda asked: Answer(body=BODY, sent=next(left, None))


# --- what counts as getting on


def test_a_server_that_always_cuts_is_followed_to_the_end(fetching: Fetching) -> None:
    assert fetching.get(cutting(len(BODY) // 20)) == BODY


def test_a_wrong_file_in_pieces_is_put_together_twice_and_no_more(fetching: Fetching) -> None:
    with pytest.raises(ChecksumMismatch):
        fetching.get(cutting(len(BODY) // 4), sha256="0" * 64, patience=3600)
    assert fetching.asked() == [8]


def test_what_comes_a_second_time_is_no_progress(fetching: Fetching) -> None:
    with pytest.raises(DownloadFailed):
        fetching.get(lengthening(9000, *(number * 1000 for number in range(1, 9)), *(100,) * 20))
    assert fetching.asked() == [6]


def test_each_time_farther_than_ever_is_progress(fetching: Fetching) -> None:
    assert fetching.get(lengthening(*(length for far in range(1, 8) for length in (far * 10_000, 10, 10)))) == BODY


# --- servers that are too slow


def dripping(fetching: Fetching, size: int, seconds: float, times: int = ENDLESS) -> Script:
    """So many bytes after so many seconds, and then no more; from some time on all there is."""
    most = itertools.chain(itertools.repeat(size, times), itertools.repeat(len(BODY)))

    def answer(asked: Asked) -> Answer:
        sent = next(most)
        fetching.now += seconds if sent == size else 0
        return cutting(sent)(asked)

    return answer


@pytest.mark.parametrize(("seconds", "answers"), [(29, 30), (600, 6)])
def test_what_only_drips_in_and_breaks_off_comes_to_an_end(fetching: Fetching, seconds: float, answers: int) -> None:
    with pytest.raises(DownloadStalled, match=r"/m\.gguf has sent less than 1024 bytes a second for 720 s"):
        fetching.get(dripping(fetching, 100, seconds))
    assert fetching.asked() == [answers]


def test_an_answer_that_drips_on_and_on_is_left(fetching: Fetching) -> None:
    """How far it is ahead of us is up to the system."""

    def later() -> None:
        fetching.now += 29

    with pytest.raises(DownloadStalled):
        fetching.get(lambda asked: Answer(body=BODY, before=later))
    assert fetching.asked()[0] <= 6


def test_after_a_mirror_that_only_drips_comes_the_next(fetching: Fetching) -> None:
    assert fetching.get(dripping(fetching, 100, 600), whole) == BODY
    assert fetching.asked() == [6, 1]


def test_what_has_dripped_in_is_kept_where_it_flows_again(fetching: Fetching) -> None:
    assert fetching.get(dripping(fetching, 100, 600, times=5)) == BODY
    assert fetching.ranges() == [None, *(f"bytes={number}00-" for number in range(1, 6))]


def test_who_is_slow_and_above_the_floor_is_followed_to_the_end(fetching: Fetching) -> None:
    assert fetching.get(dripping(fetching, 2048, 2)) == BODY


# --- answers that are too long


def test_more_than_the_file_has_is_not_written(fetching: Fetching) -> None:
    """It is asked for anew, as what is cut; a volume is not filled with it."""
    first = iter([Answer(body=BODY + b"x" * 10_000_000)])
    assert fetching.get(lambda asked: next(first, whole(asked))) == BODY
    with pytest.raises(DownloadFailed, match=f"sends more than the {len(BODY)} bytes"):
        fetching.get(lambda asked: Answer(body=BODY + b"x"))


# --- ranges


def test_all_bytes_without_the_end_of_the_answer_are_the_file(fetching: Fetching) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(body=BODY, headers={"etag": '"a"', "content-length": str(len(BODY) + 1)}, sent=len(BODY))

    assert fetching.get(answer) == BODY
    assert fetching.asked() == [1]


def test_a_range_that_cannot_be_had_is_asked_for_once(fetching: Fetching) -> None:
    """The file has become shorter since the first answer."""
    first = iter([Answer(body=b"x" * 2 * len(BODY), headers={"etag": '"a"'}, sent=len(BODY) - 10)])

    def answer(asked: Asked) -> Answer:
        return next(first, Answer(416) if "range" in asked.headers else Answer(body=BODY))

    assert fetching.get(answer) == BODY
    assert fetching.ranges() == [None, f"bytes={len(BODY) - 10}-", None]


def test_ranges_without_end_that_cannot_be_had_come_to_an_end(fetching: Fetching) -> None:
    def answer(asked: Asked) -> Answer:
        return Answer(416) if "range" in asked.headers else Answer(body=BODY, headers={"etag": '"a"'}, sent=1000)

    with pytest.raises(DownloadFailed):
        fetching.get(answer)
    assert fetching.waits < 10


# --- mirrors


@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_a_mirror_that_refuses_is_followed_by_the_next(fetching: Fetching, status: int) -> None:
    assert fetching.get(refused(status), whole) == BODY
    assert fetching.asked() == [1, 1]


@pytest.mark.parametrize(
    ("scripts", "error"),
    [
        ((refused(403), cutting(10**9), refused(404)), ChecksumMismatch),
        ((refused(403), refused(429), cutting(10**9)), HubRateLimited),
        ((refused(404), refused(400)), DownloadFailed),
        ((refused(404), refused(403)), SourceNotFound),
    ],
)
def test_of_all_failures_the_one_that_counts_is_told(
    fetching: Fetching, scripts: tuple[Script, ...], error: type[FetchError]
) -> None:
    with pytest.raises(error):
        fetching.get(*scripts, sha256="0" * 64)


def test_with_patience_all_mirrors_get_their_turns_but_those_in_vain(fetching: Fetching) -> None:
    answers = iter([Answer(503)] * 20)
    assert fetching.get(refused(404), refused(503), lambda asked: next(answers, whole(asked)), patience=3600) == BODY
    assert fetching.asked() == [1, 24, 21]


def test_a_wish_beyond_what_one_attempt_waits_for_is_granted_with_patience(fetching: Fetching) -> None:
    answers = iter([Answer(429, headers={"retry-after": "600"})])
    assert fetching.get(lambda asked: next(answers, whole(asked)), patience=3600) == BODY
    assert fetching.asked() == [2]


@pytest.mark.parametrize("status", [500, 503, 522, 524])
def test_a_server_that_is_away_for_a_moment_is_asked_again(fetching: Fetching, status: int) -> None:
    answers = iter([Answer(status)])
    assert fetching.get(lambda asked: next(answers, whole(asked))) == BODY


# --- addresses that lead elsewhere


def leading(there: Scripted) -> Script:
    """To an address of another server, signed anew each time."""
    numbers = itertools.count()
    return lambda asked: Answer(302, headers={"location": f"{there.url}/stored?signature={next(numbers)}"})


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_link_that_has_expired_is_asked_for_anew_where_it_came_from(fetching: Fetching, status: int) -> None:
    def stored(asked: Asked) -> Answer:
        return cutting(len(BODY) // 2)(asked) if asked.path.endswith(("1", "4")) else Answer(status)

    with Scripted(stored) as there:
        assert fetching.get(leading(there)) == BODY
        assert [asked.path.partition("=")[2] for asked in there.seen] == ["0", "1", "2", "3", "4"]
        assert there.seen[-1].start == len(BODY) // 2, "what was kept is kept"
    assert fetching.asked() == [5]


@pytest.mark.parametrize(("status", "error"), [(401, HubAuthFailed), (403, HubAuthFailed), (404, SourceNotFound)])
def test_a_refusal_to_every_link_comes_to_an_end_and_says_who_refuses(
    fetching: Fetching, status: int, error: type[FetchError]
) -> None:
    with Scripted(refused(status)) as there, pytest.raises(error) as ended:
        fetching.get(leading(there))
    assert fetching.asked() == [6]
    assert f"{status} for {there.url}/stored, where {fetching.servers[0].url}/m.gguf leads: " in str(ended.value)


def test_of_a_link_that_is_refused_and_a_mirror_that_is_away_the_latter_counts(fetching: Fetching) -> None:
    with Scripted(refused(403)) as there, pytest.raises(DownloadFailed, match="503"):
        fetching.get(leading(there), refused(503))


# --- what a hub lists


@pytest.mark.parametrize(
    "wrong",
    [
        {"oid": "../../elsewhere"},
        {"size": -1},
        {"size": None},
        {"lfs": {"oid": "../victim/y", "size": 2, "pointerSize": 1}},
        {"lfs": {"oid": "a" * 64, "size": "2", "pointerSize": 1}},
    ],
)
def test_a_size_or_a_digest_that_is_none_leads_nowhere(wrong: dict[str, object]) -> None:
    """The cache names files by them: a hub could name another's, or one that is locked already."""
    entry = {"type": "file", "oid": "a" * 40, "size": 2, "path": "config.json", **wrong}
    page = Answer(body=json.dumps([entry]).encode(), headers={"content-type": "application/json"})
    with Scripted(lambda asked: page) as hub, pytest.raises(DownloadFailed, match=r"config.json with a size or a dig"):
        of_hub(hub.url, Backoff()).resolve(None)


@pytest.mark.parametrize("page", [b"<html>log in</html>", b'{"error": "no"}', b"[1]", b'[{"type": "file"}]'])
def test_what_is_no_hubs_answer_is_told_so_and_asked_for_again(page: bytes) -> None:
    """A proxy's own page, say, which comes with status 200."""
    said: list[str] = []
    with Scripted(lambda asked: Answer(body=page)) as hub, pytest.raises(DownloadFailed, match=r"is no hub's answer"):
        of_hub(hub.url, Backoff(attempts=3, sleep=lambda seconds: None, say=said.append)).resolve(None)
    assert len(said) == 2


@pytest.mark.parametrize("failed", [Answer(429), Answer(503), Answer(body=b"[]", sent=1)])
def test_every_question_that_fails_is_told_and_the_library_asks_none_by_itself(failed: Answer) -> None:
    """Its own waits, six for each of ours, are silent, and hear of no Retry-After."""
    said: list[str] = []
    with Scripted(lambda asked: failed) as hub, pytest.raises(FetchError):
        of_hub(hub.url, Backoff(attempts=3, sleep=lambda seconds: None, say=said.append)).resolve(None)
    assert (len(hub.seen), len(said)) == (3, 2)


def test_a_listing_without_an_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubapi, "MOST_PAGES", 20)

    def page(asked: Asked) -> Answer:
        assert len(hub.seen) < ENDLESS, "it never ends"
        return Answer(body=b"[]", headers={"link": f'<{hub.url}/next>; rel="next"'})

    with Scripted(page) as hub, pytest.raises(DownloadFailed, match="goes on and on"):
        of_hub(hub.url, Backoff(attempts=1)).resolve(None)


def of_hub(url: str, backoff: Backoff) -> HubSource:
    spec = HuggingFace(repo="demo/tiny", revision=COMMIT)
    return HubSource(spec, "model", url, None, Downloader(httpx.Client(), backoff, Progress("model")), backoff)


# --- where a token goes


def listing(then: str) -> Script:
    """A repository whose listing goes on at another address."""
    page = json.dumps([{"type": "file", "oid": "a" * 40, "size": 2, "path": "config.json"}]).encode()
    kind = {"content-type": "application/json"}

    def answer(asked: Asked) -> Answer:
        again = "cursor" in asked.path
        return Answer(
            body=b"[]" if again else page, headers=kind if again else {**kind, "link": f'<{then}>; rel="next"'}
        )

    return answer


@pytest.mark.parametrize("home", [True, False])
def test_a_token_never_follows_a_listing_to_another_host(home: bool) -> None:
    with Scripted(listing("unused")) as other, Scripted(lambda asked: answer(asked)) as hub:
        answer = listing(f"{hub.url if home else other.url}/next?cursor=1")
        source = HubSource(
            *(HuggingFace(repo="demo/tiny", revision=COMMIT, files=["config.json"]), "model", hub.url, "hf_secret"),
            *(Downloader(httpx.Client(), Backoff(), Progress("model")), Backoff()),
        )
        assert [file.path for file in source.resolve(None).files] == ["config.json"]
        first, second = [*hub.seen, *other.seen]
    assert first.headers["authorization"] == "Bearer hf_secret"
    assert ("authorization" in second.headers) == home


# --- as a container runs it


def process(config: Path, folder: Path, **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pilotboat_fetch", "--config", str(config)],
        env=os.environ
        | {"PYTHONPATH": f"{ROOT}/operator:{ROOT}/images/fetch", "PILOTBOAT_TERMINATION_LOG": str(folder / "log")}
        | env,
    )


def written(folder: Path, *urls: str, body: bytes = BODY) -> Path:
    http = {"urls": urls, "sha256": hashlib.sha256(body).hexdigest()}
    path = folder / "fetch.json"
    path.write_text(json.dumps({"items": [{"name": "model", "destination": str(folder / "model"), "http": http}]}))
    return path


def test_sigterm_ends_it_and_no_mirror_is_tried_any_more(tmp_path: Path) -> None:
    (tmp_path / "hub" / "demo" / "tiny").mkdir(parents=True)
    (tmp_path / "hub" / "demo" / "tiny" / "m.gguf").write_bytes(BODY)
    with Hub(tmp_path / "hub") as hub:
        hub.faults.append(Fault("m.gguf", cut=1000, hang=True))
        urls = [f"{hub.url}/demo/tiny/resolve/main/m.gguf?mirror={number}" for number in (1, 2)]
        run = process(written(tmp_path, *urls), tmp_path)
        assert hub.hanging.wait(60)
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 143
        hub.release.set()
        assert len(hub.seen) == 1
    assert json.loads((tmp_path / "log").read_text())["message"] == "stopped by SIGTERM"
    assert list((tmp_path / "model").iterdir()) == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:99999/m.gguf", "InvalidSpec"),
        ("http://[1:2]/m.gguf", "SourceNotFound"),
        ("http://127.0.0.1:9/a%00.gguf", "UnsafeFile"),
        (f"http://127.0.0.1:9/{'a' * 300}.gguf", "UnsafeFile"),
        ("http://127.0.0.1:9/?a/m.gguf", "SourceNotFound"),
    ],
)
def test_an_address_that_cannot_be_used_is_not_tried_again(tmp_path: Path, url: str, reason: str) -> None:
    assert process(written(tmp_path, url), tmp_path).wait(60) == 64
    assert json.loads((tmp_path / "log").read_text())["reason"] == reason


def test_a_hub_whose_address_cannot_be_used_is_not_asked_again() -> None:
    hub = HuggingFace(repo="a/b", endpoint="http://[1:2]")
    downloader = Downloader(httpx.Client(), Backoff(), Progress("model"))
    with pytest.raises(SourceNotFound, match=r"http://\[1:2\] is no address"):
        HubSource(hub, "model", None, None, downloader, Backoff()).resolve(None)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@h:99999/a/b.gguf?sig=x#y", "https://h:99999/a/b.gguf"),
        ("http://h/a@1/b://c@d", "http://h/a@1/b://c@d"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert bare(url) == shown


def test_authorities_that_this_image_does_not_have_end_nothing(tmp_path: Path) -> None:
    with Scripted(whole) as server:
        config = written(tmp_path, f"{server.url}/m.gguf")
        assert process(config, tmp_path, SSL_CERT_FILE=str(tmp_path / "nothing.pem")).wait(60) == 0


@pytest.mark.parametrize(
    "proxy", ["http://me:s3c#ret@proxy:3128", "http://me:s3c/ret@proxy:3128", "socks5://me:s3c@p:1"]
)
def test_a_proxy_that_cannot_be_used_is_told_without_its_password(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], proxy: str
) -> None:
    config = written(tmp_path, "http://hub.example/m.gguf")
    assert process(config, tmp_path, HTTP_PROXY=proxy).wait(60) == 64
    told = json.loads((tmp_path / "log").read_text())
    assert told["reason"] == "InvalidSpec"
    assert "HTTPS_PROXY" in told["message"]
    assert "s3c" not in str(told) + "".join(capfd.readouterr())
