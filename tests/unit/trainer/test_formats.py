"""Lines of each format: what they become, and what is said of those that are wrong."""

from typing import Any

import pytest

from pilotboat.api.finetune_job import DatasetFormat as F
from pilotboat_trainer.formats import BadLine, convert, recognise


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    ("row", "shape"),
    [
        ({"messages": []}, F.MESSAGES),
        ({"prompt": "", "completion": ""}, F.PROMPT_COMPLETION),
        ({"instruction": "", "output": "", "input": ""}, F.ALPACA),
        ({"text": "", "id": 1}, F.TEXT),
    ],
)
def test_formats_are_recognised(row: dict[str, Any], shape: F) -> None:
    assert recognise(row) is shape


def test_what_is_no_format_is_told_with_its_keys() -> None:
    with pytest.raises(BadLine, match="it has answer, question"):
        recognise({"question": "", "answer": ""})
    with pytest.raises(BadLine, match="got list"):
        recognise([])


def test_each_answer_of_a_chat_becomes_an_example() -> None:
    chat = [{"role": "system", "content": "s"}, user("a"), answer("b"), user("c"), answer("d")]
    assert convert({"messages": chat}, F.MESSAGES) == [
        {"prompt": chat[:2], "completion": [chat[2]]},
        {"prompt": chat[:4], "completion": [chat[4]]},
    ]


def test_alpaca_becomes_a_question_and_an_answer() -> None:
    assert convert({"instruction": "Add", "input": "1 2", "output": "3"}, F.ALPACA) == [
        {"prompt": [user("Add\n\n1 2")], "completion": [answer("3")]}
    ]
    assert convert({"instruction": "Hi", "input": None, "output": "Ho"}, F.ALPACA)[0]["prompt"] == [user("Hi")]


def test_prompt_and_completion_as_text_or_messages() -> None:
    plain = {"prompt": "a", "completion": "b"}
    assert convert(plain, F.PROMPT_COMPLETION) == [plain]
    chat = {"prompt": [user("a")], "completion": [answer("b")]}
    assert convert(chat, F.PROMPT_COMPLETION) == [chat]


def test_only_what_is_needed_is_taken() -> None:
    assert convert({"text": "a", "image": "x"}, F.TEXT) == [{"text": "a"}]


@pytest.mark.parametrize(
    ("row", "shape", "words"),
    [
        ({"messages": []}, F.MESSAGES, "list of messages that is not empty"),
        ({"messages": [user("a")]}, F.MESSAGES, "no message of the assistant"),
        ({"messages": [answer("a")]}, F.MESSAGES, "begins with the assistant"),
        ({"messages": [user("a"), answer("")]}, F.MESSAGES, r"messages\[1\].content' is empty"),
        ({"messages": [{"role": "bot", "content": "a"}]}, F.MESSAGES, r"messages\[0\].role must be one of"),
        ({"messages": [{"role": "user", "content": [1]}]}, F.MESSAGES, "must be text, not list"),
        ({"messages": ["hi"]}, F.MESSAGES, "must be an object with role and content"),
        ({"prompt": "a"}, F.PROMPT_COMPLETION, "'completion' is missing"),
        ({"prompt": "a", "completion": [answer("b")]}, F.PROMPT_COMPLETION, "'prompt' must be a list"),
        ({"instruction": "a", "output": 3}, F.ALPACA, "'output' must be text, not int"),
        ({"instruction": "a", "input": 3, "output": "b"}, F.ALPACA, "'input' must be text, not int"),
        ({"text": "  "}, F.TEXT, "'text' is empty"),
        ({"text": "cut \ud83d"}, F.TEXT, r"'text' has half a character, \\ud83d, at position 5"),
        (
            {"prompt": [user("\udc00")], "completion": [answer("b")]},
            F.PROMPT_COMPLETION,
            r"prompt\[0\].content' has half",
        ),
        ({"instruction": "a", "input": "\ud83d", "output": "b"}, F.ALPACA, "'input' has half a character"),
        ({"message": "a"}, F.TEXT, "'text' is missing for format Text; it has message"),
        ("text", F.TEXT, "wanted an object, got str"),
    ],
)
def test_what_is_wrong_is_said(row: Any, shape: F, words: str) -> None:
    with pytest.raises(BadLine, match=words):
        convert(row, shape)
