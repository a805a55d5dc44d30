"""The shapes a line of a data set may have, and what each becomes: a prompt and a completion, or plain text.

The loss is taken on completions alone, so whatever names its answer is turned into prompt and completion. A chat with
several answers becomes one example an answer: right under every chat template, without markers in it.

    Messages           {"messages": [{"role", "content"}, ...]}        one example for each assistant message
    PromptCompletion   {"prompt", "completion"}                        texts as they are, or lists of messages
    Alpaca             {"instruction", "input"?, "output"}             a user's message and the assistant's
    Text               {"text"}                                        loss on every token

Owns: recognising, checking, converting one line. Must not know: files, tokenizers, torch.
"""

from __future__ import annotations

from typing import Any

from pilotboat.api.finetune_job import DatasetFormat

Row = dict[str, Any]
ROLES = ("system", "user", "assistant", "tool")
_KEYS = {
    DatasetFormat.MESSAGES: ("messages",),
    DatasetFormat.PROMPT_COMPLETION: ("prompt", "completion"),
    DatasetFormat.ALPACA: ("instruction", "output"),
    DatasetFormat.TEXT: ("text",),
}
CONVERSATIONAL = (DatasetFormat.MESSAGES, DatasetFormat.ALPACA)
"""Formats that need the model's chat template."""


class BadLine(ValueError):
    """What is wrong with a line, in words; the reader of files adds which."""


def recognise(row: object) -> DatasetFormat:
    """The format that a line has. Raises BadLine where it has none."""
    if isinstance(row, dict):
        for shape, keys in _KEYS.items():
            if all(key in row for key in keys):
                return shape
    wanted = "; ".join(" and ".join(keys) for keys in _KEYS.values())
    raise BadLine(f"no known format: wanted an object with {wanted}; {_has(row)}")


def convert(row: object, shape: DatasetFormat) -> list[Row]:
    """The examples in one line. Raises BadLine where it is not what the format says."""
    if not isinstance(row, dict):
        raise BadLine(f"wanted an object, {_has(row)}")
    for key in _KEYS[shape]:
        if key not in row:
            raise BadLine(f"{key!r} is missing for format {shape}; {_has(row)}")
    match shape:
        case DatasetFormat.MESSAGES:
            return _messages(row["messages"])
        case DatasetFormat.PROMPT_COMPLETION:
            return [_prompt_completion(row["prompt"], row["completion"])]
        case DatasetFormat.ALPACA:
            return [_alpaca(row)]
        case _:
            return [{"text": _text(row["text"], "text")}]


def _messages(value: object) -> list[Row]:
    messages = _chat(value, "messages")
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise BadLine("'messages' has no message of the assistant: nothing to learn")
    if answers[0] == 0:
        raise BadLine("'messages' begins with the assistant: no prompt before it")
    return [{"prompt": messages[:number], "completion": [messages[number]]} for number in answers]


def _prompt_completion(prompt: object, completion: object) -> Row:
    if isinstance(prompt, list) or isinstance(completion, list):
        return {"prompt": _chat(prompt, "prompt"), "completion": _chat(completion, "completion")}
    return {"prompt": _text(prompt, "prompt"), "completion": _text(completion, "completion")}


def _alpaca(row: Row) -> Row:
    question = _text(row["instruction"], "instruction")
    context = row.get("input") or ""
    if not isinstance(context, str):
        raise BadLine(f"'input' must be text, not {type(context).__name__}")
    _whole(context, "input")
    user = f"{question}\n\n{context}" if context.strip() else question
    answer = _text(row["output"], "output")
    return {"prompt": [_message("user", user)], "completion": [_message("assistant", answer)]}


def _chat(value: object, name: str) -> list[Row]:
    if not isinstance(value, list) or not value:
        raise BadLine(f"{name!r} must be a list of messages that is not empty")
    return [_checked(message, f"{name}[{number}]") for number, message in enumerate(value)]


def _checked(message: object, name: str) -> Row:
    if not isinstance(message, dict):
        raise BadLine(f"{name} must be an object with role and content")
    if message.get("role") not in ROLES:
        raise BadLine(f"{name}.role must be one of {', '.join(ROLES)}, not {message.get('role')!r}")
    return _message(message["role"], _text(message.get("content"), f"{name}.content"))


def _message(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise BadLine(f"{name!r} must be text, not {type(value).__name__}")
    if not value.strip():
        raise BadLine(f"{name!r} is empty")
    _whole(value, name)
    return value


def _whole(text: str, name: str) -> None:
    """JSON may escape half a character, as of an emoji that was cut in two; no tokenizer takes one."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise BadLine(f"{name!r} has half a character, {half}, at position {error.start + 1}") from error


def _has(row: object) -> str:
    return (
        f"it has {', '.join(sorted(map(str, row))) or 'no keys'}"
        if isinstance(row, dict)
        else f"got {type(row).__name__}"
    )
