"""What a request's body says that the model shall read: messages, a prompt, or an answer that is given.

Owns their forms and limits. Must not know: what is drawn after it, HTTP, engines.
"""

from __future__ import annotations

from typing import Any

from .fields import MAX_INTEGER, Fields
from .types import Message

MAX_PROMPTS = 128
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def messages(fields: Fields) -> tuple[Message, ...]:
    """The messages, of which there is at least one."""
    value = fields.take("messages")
    if not isinstance(value, list) or not value:
        raise fields.wrong("messages", "must be a list of at least one message.")
    return tuple(_message(entry, f"messages[{index}]") for index, entry in enumerate(value))


def prompts(fields: Fields) -> list[str | tuple[int, ...]]:
    """One prompt (text, or token ids), or a list of them."""
    value = fields.take("prompt")
    many = value if isinstance(value, list) and value and not isinstance(value[0], int) else [value]
    prompts = [tuple(prompt) if isinstance(prompt, list) else prompt for prompt in many]
    if not all(isinstance(prompt, str) or _is_tokens(prompt) for prompt in prompts):
        raise fields.wrong("prompt", "must be a string, a list of token ids, or a list of either.")
    if not all(prompts) or len(prompts) > MAX_PROMPTS:
        raise fields.wrong("prompt", f"must have 1 to {MAX_PROMPTS} entries, none of them empty.")
    return prompts


def reference(fields: Fields, messages: tuple[Message, ...]) -> str:
    """With `echo`, the last message is an answer that is given, and asked for are its tokens' probabilities."""
    limits = [fields.take(name) for name in ("max_tokens", "max_completion_tokens")]
    if any(type(limit) is not int or limit for limit in limits if limit is not None) or limits == [None, None]:
        raise fields.wrong("max_tokens", "must be 0 where echo is true: nothing is generated.")
    if len(messages) < 2 or messages[-1]["role"] != "assistant" or not messages[-1]["content"]:
        raise fields.wrong("echo", "needs a last message from the assistant: the answer to be looked at.")
    return messages[-1]["content"]


def _message(entry: Any, path: str) -> Message:
    fields = Fields(entry, path)
    role = fields.text("role") or ""
    if role not in ROLES:
        raise fields.wrong("role", f"must be one of {', '.join(ROLES)}.")
    content = _content(fields, path)
    fields.neutral({"name": (), "refusal": (), "audio": (), "tool_calls": ([],), "function_call": ()})
    fields.nothing_else()
    return {"role": ROLES[role], "content": content}


def _content(fields: Fields, path: str) -> str:
    value = fields.take("content")
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise fields.wrong("content", "must be a string or a list of text parts.")
    return "".join(_part(part, f"{path}.content[{index}]") for index, part in enumerate(value))


def _part(part: Any, path: str) -> str:
    fields = Fields(part, path)
    if fields.text("type") != "text":
        raise fields.wrong("type", "must be text: this model reads nothing else.")
    text = fields.text("text")
    if text is None:
        raise fields.wrong("text", "is missing.")
    fields.nothing_else()
    return text


def _is_tokens(prompt: Any) -> bool:
    return isinstance(prompt, tuple) and all(type(token) is int and 0 <= token <= MAX_INTEGER for token in prompt)
