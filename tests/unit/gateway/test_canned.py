"""Whether a replica that gets no traffic still infers: our server's own deep check, or a request where it has none."""

from __future__ import annotations

import pytest

from pilotboat_gateway.canned import Canned
from pilotboat_gateway.scrape import Pod
from tests.unit.gateway.test_evidence import answering, told
from tests.unit.server.harness import Running, config, serving

SAID = b'{"choices": [{"text": "%s"}]}' % (b"x" * 1000)
NOT_KNOWN = told(b"{}", b"HTTP/1.1 404 Not Found\r\n")
NOT_MADE = told(b"{}", b"HTTP/1.1 501 Not Implemented\r\n")


async def asked(canned: Canned, pod: Pod) -> str:
    await canned.round([pod])
    answer = canned.of(pod.name)
    assert answer is not None
    assert len(answer) < 300
    return answer


@pytest.mark.parametrize("before", [(), (NOT_KNOWN,), (NOT_MADE,)], ids=["ours", "another's", "a third's"])
async def test_an_inference_is_good_when_its_answer_is_whole(before: tuple[bytes, ...]) -> None:
    canned = Canned()
    answers = told(SAID), told(SAID)[:-20], told(b"no" * 1000, b"HTTP/1.1 503 Error\r\n")
    async with answering(*(each for answer in answers for each in (*before, answer))) as pod:
        assert await asked(canned, pod) == ""
        assert (await asked(canned, pod)).startswith("ClientPayloadError")
        assert (await asked(canned, pod)).startswith("HTTP 503: nono")


async def test_a_server_of_another_make_that_wants_a_key_is_taken_at_its_word() -> None:
    wants_key = told(b"{}", b"HTTP/1.1 401 Unauthorized\r\n")
    async with answering(NOT_KNOWN, wants_key, wants_key, wants_key) as pod:
        assert [await asked(Canned(), pod) for _ in range(2)] == ["", ""]


async def test_our_server_infers_though_it_wants_a_key() -> None:
    async with serving(api_keys=("k",)) as running:
        assert await asked(Canned(), pod_of(running)) == ""


@pytest.mark.parametrize(("fake", "words"), [("failRatio", "was told to fail"), ("hangRatio", "no token within")])
async def test_our_server_with_a_key_whose_engine_does_not_infer_is_found_out(fake: str, words: str) -> None:
    async with serving(config(fake={fake: 1.0}), api_keys=("k",), stall_seconds=0.5) as running:
        answer = await asked(Canned(), pod_of(running))
    assert answer.startswith("HTTP 503")
    assert words in answer


def pod_of(running: Running) -> Pod:
    return Pod("m", "aaa", "p-1", running.url.removeprefix("http://"))
