"""Reading a request's JSON field by field: each field is taken once, with its type; what is left over is refused.

Owns type checks and their 400s. Must not know: which fields there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from .errors import BadRequest

MAX_INTEGER = 2**31 - 1
"""Of whole numbers, where nothing else is said: more than there are tokens, and what engines written in C can hold."""
SHOWN = 24
"""Characters of a wrong value that its 400 repeats."""

N = TypeVar("N", int, float)


class Fields:
    """The fields of one JSON object. `null` counts as left out, as in OpenAI's API."""

    def __init__(self, data: Any, path: str = "") -> None:
        if not isinstance(data, dict):
            raise BadRequest(f"{path or 'The body'} must be a JSON object.", path or None)
        self._data = {key: value for key, value in data.items() if value is not None}
        self._path = path

    def name(self, key: str) -> str:
        """The field as the caller wrote it, with the objects around it."""
        return f"{self._path}.{key}" if self._path else key

    def take(self, key: str) -> Any:
        """The value as it is; None where it is left out."""
        return self._data.pop(key, None)

    def wrong(self, key: str, message: str) -> BadRequest:
        """A 400 that names this field."""
        return BadRequest(f"{self.name(key)} {message}", self.name(key))

    def number(self, key: str, low: float, high: float) -> float | None:
        """A number within a range, both ends included."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "must be a number.")
        return float(self._within(key, value, low, high))

    def integer(self, key: str, low: int, high: int = MAX_INTEGER) -> int | None:
        """A whole number within a range, both ends included."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, "must be an integer.")
        return self._within(key, value, low, high)

    def _within(self, key: str, value: N, low: float, high: float) -> N:
        """Before anything is done with it: an integer of JSON may have thousands of digits, and a number be NaN."""
        if not low <= value <= high:
            shown = str(value)
            shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
            raise self.wrong(key, f"is {shown}; it must be between {low} and {high}.")
        return value

    def boolean(self, key: str) -> bool | None:
        """true or false."""
        value = self.take(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "must be true or false.")
        return value

    def text(self, key: str) -> str | None:
        """A string."""
        value = self.take(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "must be a string.")
        return value

    def neutral(self, accepted: Mapping[str, tuple[Any, ...]]) -> None:
        """Fields that would ask for something we do not do: fine as long as they say what is so anyway."""
        for key, values in accepted.items():
            value = self.take(key)
            if value is not None and not any(value == same and type(value) is type(same) for same in values):
                raise self.wrong(key, "is not supported by this server.")

    def nothing_else(self) -> None:
        """Refuse what nobody took."""
        for key in self._data:
            raise BadRequest(f"Unrecognized request argument supplied: {self.name(key)}", self.name(key))
