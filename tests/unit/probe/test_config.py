"""What a probe may be asked for: every bound, and both forms of names."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pilotboat.api.probing import ProbeConfig

SMALL: dict[str, Any] = {
    "model": "m",
    "canary": {"revision": "b", "url": "http://chat-b:8080"},
    "stable": {"revision": "a", "url": "http://chat-a:8080"},
    "quality": {},
}


def test_what_is_written_is_read_again() -> None:
    config = ProbeConfig.model_validate(SMALL | {"load_test": {"rate": 2.5}, "traffic": {"perMinute": 6}})
    assert ProbeConfig.load(config.to_json()) == config
    assert config.load_test
    assert config.load_test.prompt_tokens == [128]


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"quality": None}, "give at least one of quality, perplexity, loadTest"),
        ({"stable": None}, "quality, perplexity and traffic compare with it"),
        ({"stable": {"revision": "b", "url": "http://x"}}, "must be another revision"),
        ({"canary": {"revision": "b", "url": "http://user:secret@x"}}, "credentials do not belong"),
        ({"canary": {"revision": "b", "url": "file:///etc/passwd"}}, "must be an http"),
        ({"prompts": ["x"] * 101}, "prompts"),
        ({"prompts": ["x" * 2001]}, "prompts"),
        ({"prompts": [""]}, "prompts"),
        ({"prompts": ["\U0001f6a2" * 2000] * 30}, "must not be above 500000 bytes"),
        ({"quality": {"maxTokens": 513}}, "maxTokens"),
        ({"quality": {"concurrency": 0}}, "concurrency"),
        ({"requestTimeout": "0s"}, "between 1s and 600s"),
        ({"loadTest": {"rate": 0}}, "rate"),
        ({"loadTest": {"rate": 201}}, "rate"),
        ({"loadTest": {"rate": float("nan")}}, "rate"),
        ({"loadTest": {"rate": 1, "duration": "11m"}}, "between 1s and 600s"),
        ({"loadTest": {"rate": 200, "duration": "10m"}}, "must not be above 60000 requests"),
        ({"loadTest": {"rate": 1, "promptTokens": []}}, "promptTokens"),
        ({"loadTest": {"rate": 1, "concurrency": 257}}, "concurrency"),
        ({"traffic": {"perMinute": 0}}, "perMinute"),
        ({"traffic": {"duration": "31m"}}, "between 1s and 1800s"),
        ({"apiKey": "sk"}, "apiKey"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ValidationError, match=where):
        ProbeConfig.model_validate(SMALL | change)
