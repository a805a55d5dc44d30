"""What a person asks of a rollout (`spec.rollout.action`), each thing once.

Owns: which have been heard. Must not know: what they do (progression.py).

More than the last are remembered: who keeps one in Git and asks for another by hand has Git put its own back.
"""

from __future__ import annotations

from ..api.rollout import Action, Rollout
from .build import Raw, dig

REMEMBERED = 10


def due(parent: Raw, spec: Rollout) -> Action | None:
    """What is asked and has not been heard yet."""
    return spec.action if spec.action and spec.action.id not in _heard(parent) else None


def remembered(parent: Raw, heard: Action | None) -> list[str] | None:
    """The ids that have been heard, the newest first; one that stands in the spec stays among them. None: no id."""
    known = _heard(parent)
    newest = [heard.id, *(each for each in known if each != heard.id)] if heard else known
    return newest[:REMEMBERED] or None


def _heard(parent: Raw) -> list[str]:
    last, known = dig(parent, "status", "lastAction"), dig(parent, "status", "actions") or []
    return list(dict.fromkeys([*([last] if last else []), *known]))
