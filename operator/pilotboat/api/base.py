"""What every API type is made of: strict frozen models, bounded scalars, unions and CEL rules.

Owns: the mechanics of the models. Must not know: any particular resource.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

MAX_NAME = 40
"""Longest name of a custom resource: with `-` and an 8-digit hash, and kubelet's suffixes, children stay within 63."""


def _dated(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


Time = Annotated[str, AfterValidator(_dated)]
"""A time in a status, as Kubernetes writes them. What others have put in its place cannot be read, and so is not."""


def _per_cent(share: int) -> int:
    if not 0 <= share <= 100:
        raise ValueError("not a per cent")
    return share


Share = Annotated[int, AfterValidator(_per_cent)]
"""Per cent in a status, likewise."""


class Model(BaseModel):
    """A strict, frozen API object: camelCase on the wire, snake_case also accepted, unknown fields refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    def wire(self) -> dict[str, Any]:
        """The object as JSON-ready camelCase data, without fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ConfigFile(Model):
    """A file the operator writes and an image reads. snake_case and camelCase are both accepted."""

    def to_json(self) -> str:
        """Stable JSON: the same config gives the same bytes, so revisions hash alike."""
        return json.dumps(self.wire(), sort_keys=True, indent=1)

    @classmethod
    def load(cls, text: str) -> Self:
        """Parse and validate; raises pydantic.ValidationError that names each bad field."""
        return cls.model_validate_json(text)


class Status(Model):
    """A part of a status: lenient when read, because an older or newer operator may have written it."""

    model_config = ConfigDict(extra="ignore")

    def wire(self) -> dict[str, Any]:
        """As Model's, without empty maps: server-side apply makes null of a map that we empty, and then refuses it."""
        whole: dict[str, Any] = _without_empty_maps(super().wire())
        return whole


def _without_empty_maps(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_empty_maps(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _without_empty_maps(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item != {}}


def cel(rule: str, message: str, field_path: str | None = None) -> dict[str, str]:
    """One `x-kubernetes-validations` entry."""
    entry = {"rule": rule, "message": message}
    return entry | {"fieldPath": field_path} if field_path else entry


def validations(*rules: dict[str, str]) -> dict[str, Any]:
    """The `json_schema_extra` that carries CEL rules into the generated CRD."""
    return {"x-kubernetes-validations": list(rules)}


class OneOf(Model):
    """A union: exactly one of the fields is set. The same rule is written into the CRD as CEL."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        chosen = [to_camel(name) for name in type(self).model_fields if getattr(self, name) is not None]
        if len(chosen) != 1:
            raise ValueError(exactly_one_message(type(self)) + (f", not {' and '.join(chosen)}" if chosen else ""))
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        schema: dict[str, Any] = handler(core_schema)
        target = handler.resolve_ref_schema(schema)
        flags = ", ".join(f"has(self.{to_camel(name)})" for name in cls.model_fields)
        target["x-kubernetes-validations"] = [
            cel(f"[{flags}].filter(set, set).size() == 1", exactly_one_message(cls)),
        ]
        return schema

    def chosen(self) -> tuple[str, Any]:
        """The wire name and the value of the field that is set."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                return to_camel(name), value
        raise AssertionError("validated on construction")


def exactly_one_message(model: type[Model]) -> str:
    """The sentence shown by both validators when a union is not one thing."""
    return "give exactly one of " + ", ".join(to_camel(name) for name in model.model_fields)


class Shape(NamedTuple):
    """What a string must be wholly, or with `refused` must not have in it. The pattern is one that RE2 knows too."""

    pattern: str
    message: str
    refused: bool = False

    def holds(self, value: str) -> bool:
        """Whether the value has the shape."""
        found = re.search(self.pattern, value) if self.refused else re.fullmatch(self.pattern, value)
        return (found is None) is self.refused

    @property
    def rule(self) -> dict[str, str]:
        """The same as CEL."""
        whole = f"!self.matches(r'{self.pattern}')" if self.refused else f"self.matches(r'^(?:{self.pattern})$')"
        return cel(whole, self.message)


class Longest(NamedTuple):
    """The longest that a duration may be."""

    duration: str

    @property
    def message(self) -> str:
        """What is said of a longer one."""
        return f"must not be longer than {self.duration}"

    def holds(self, value: str) -> bool:
        """Whether the value, a duration, is not longer."""
        return seconds(value) <= seconds(self.duration)

    @property
    def rule(self) -> dict[str, str]:
        """The same as CEL, which tells all that is wrong: what is no duration cannot be compared."""
        some = f"self.matches(r'^(?:{_SOME.pattern})$')"
        return cel(f"!{some} || duration(self) <= duration('{self.duration}')", self.message)


def shaped(*shapes: Shape | Longest) -> tuple[AfterValidator, Any]:
    """Shapes of which both validators say in words what is wrong, as a plain `pattern` does not."""

    def check(value: str) -> str:
        for shape in shapes:
            if not shape.holds(value):
                raise ValueError(shape.message)
        return value

    return AfterValidator(check), Field(json_schema_extra=validations(*(shape.rule for shape in shapes)))


DURATION = r"(?:([0-9]{1,5})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6})s)?"
_H, _M, _S = "[0-9]{1,5}h", "[0-9]{1,5}m", "[0-9]{1,6}s"
_SOME = Shape(rf"{_H}({_M})?({_S})?|{_M}({_S})?|{_S}", "must be a duration such as 90s, 5m or 1h30m")
_ABOVE_ZERO = Shape(r"^[0hms]+$", "must be longer than 0s", refused=True)
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i|[eE][0-9]{1,2})?$"
PRINTABLE = r"[^\x00-\x20\x7f]"
"""A character of a path or an image: no blank, no control character. The same to pydantic and to the API server."""


def seconds(duration: str) -> int:
    """`1h30m`, `5m`, `90s` in seconds. Raises ValueError for anything else."""
    match = re.fullmatch(DURATION, duration)
    if not match or not duration:
        raise ValueError(f"{duration!r} is not a duration such as 90s, 5m or 1h30m")
    hours, minutes, rest = (int(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + rest


_BYTES = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
}


def byte_count(quantity: str | int) -> int:
    """Bytes, of a quantity such as 256Mi. Raises ValueError where it is no whole number of bytes."""
    text = str(quantity)
    digits = text.rstrip("KMGTik")
    unit = text[len(digits) :]
    if unit not in _BYTES or not digits.isdigit():
        raise ValueError("must be a number of bytes such as 256Mi")
    return int(digits) * _BYTES[unit]


ObjectName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
]
"""Name of a Secret, ConfigMap, PersistentVolumeClaim or other object in the same namespace."""

Key = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$", min_length=64, max_length=64)]
_ADDRESS = (
    Shape(r"//[^/?#]*@", "credentials do not belong in an address: they would be readable in the spec", refused=True),
    Shape(
        r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?([/?#][!-~]*)?",
        "must be an http:// or https:// address",
    ),
    Shape(
        r"^[a-z]+://[^/?#]*:0*(0|[1-9][0-9]{5,}|[7-9][0-9]{4}|6[6-9][0-9]{3}|65[6-9][0-9]{2}|655[4-9][0-9]|6553[6-9])"
        r"([/?#]|$)",
        "the port must be from 1 to 65535",
        refused=True,
    ),
)
_NO_QUERY = Shape(r"[?#]", "must be an address to which a path can be added: without ? and #", refused=True)
Url = Annotated[str, StringConstraints(max_length=2048), *shaped(*_ADDRESS)]
"""An http(s) address without credentials: those belong into a Secret."""

BaseUrl = Annotated[str, StringConstraints(max_length=2048), *shaped(*_ADDRESS, _NO_QUERY)]
"""The same, of a server whose paths we know."""

INSIDE = Shape(r"(^|/)\.\.(/|$)", "'..' is not allowed in a path", refused=True)
RelativePath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024),
    *shaped(
        INSIDE,
        Shape(r"^/", "must be relative to the volume's root: leave out the slash at its beginning", refused=True),
        Shape(rf"{PRINTABLE}+", "must be a path without blanks"),
    ),
]
Duration = Annotated[str, StringConstraints(max_length=20), *shaped(_SOME)]
TimeLimit = Annotated[str, StringConstraints(max_length=20), *shaped(_SOME, _ABOVE_ZERO)]
DayLimit = Annotated[str, StringConstraints(max_length=20), *shaped(_SOME, _ABOVE_ZERO, Longest("24h"))]
Image = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=rf"^{PRINTABLE}+$")]
Quantity = Annotated[
    Annotated[str, StringConstraints(max_length=64, pattern=QUANTITY)] | Annotated[int, Field(ge=0)],
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 64, "pattern": QUANTITY, "minimum": 0}),
]
"""An amount of a resource, such as 4, 500m or 16Gi."""

_SIZE = r"^[1-9][0-9]{0,14}(k|[MGT]|[KMGT]i)?$"
Size = Annotated[
    Annotated[str, StringConstraints(max_length=20, pattern=_SIZE)] | Annotated[int, Field(ge=1)],
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "maxLength": 20, "pattern": _SIZE, "minimum": 1}),
]
"""A number of bytes above 0, such as 200Gi."""
