"""What can keep a rehearsal from happening.

RehearsalError
├── BadFile      the file is not one of a rehearsal; the message names the field
├── Refused      it would go beyond its limit, or the deployment is not fit for it; nothing was disturbed
│   └── NotWhole    replicas or conditions are missing, which may come yet
├── Unmeasured   it was begun, and what happened says nothing about the promise
└── HealFailed   a fault still stands: nothing more may be done

Owns: the tree. Must not know: who raises what.
"""

from __future__ import annotations


class RehearsalError(Exception):
    """Anything below."""


class BadFile(RehearsalError):
    """The file has to be changed."""


class Refused(RehearsalError):
    """Nothing was done."""


class NotWhole(Refused):
    """Some of it is missing, and nobody said that it will stay so."""


class Unmeasured(RehearsalError):
    """Something was done, all of it undone, and there is no figure."""


class HealFailed(RehearsalError):
    """Something was done, and somebody has to undo it by hand."""
