"""Every chat of the data set through the model's template, before its weights are loaded.

A template may refuse what is a chat by its format: two messages of the user in a row, a system's, a tool's.

Owns: trying the template, and what is said where it refuses. Must not know: torch, how the library applies it.
"""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from .dataset import Examples, refusal
from .errors import InvalidModel
from .formats import Row


def check(examples: Examples, tokenizer: Any, base: str) -> None:
    """Raises InvalidDataset, naming file and line, or InvalidModel where the template cannot be used for any chat."""
    if not examples.conversational:
        return
    if not tokenizer.chat_template:
        raise InvalidModel(f"{base} has no chat template: use a data set in format Text or PromptCompletion")
    if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
        names = ", ".join(sorted(tokenizer.chat_template))
        raise InvalidModel(f"{base} has several chat templates ({names}), and none of them is the default")
    broken: dict[str, str] = {}
    for place, row in zip(examples.places, examples.rows, strict=True):
        try:
            _render(tokenizer, row)
        except TemplateSyntaxError as error:
            raise InvalidModel(f"{base}: the chat template is broken: {error}") from error
        except TemplateError as error:
            broken.setdefault(place, f"the model's chat template refuses it: {error}")
        except Exception as error:  # a template reckons, and may go wrong in any way
            broken.setdefault(place, f"the model's chat template fails at it: {type(error).__name__}: {error}")
    if broken:
        raise refusal(broken)


def _render(tokenizer: Any, row: Row) -> None:
    """As it is trained on: the prompt, where an answer is asked for, and all of it."""
    tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
    tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False)
