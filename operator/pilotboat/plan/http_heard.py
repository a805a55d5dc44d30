"""What is heard of an HTTPRoute: from the API server that has it, and from the controllers of its Gateways.

Owns: how it is looked up, whose it is, what the words about it mean. Must not know: what is put into it.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..api.reasons import Reason
from .build import Raw, dig
from .http_reach import GROUP
from .outcome import Cause
from .types import Observed, Ref, Unread

API_VERSION = f"{GROUP}/v1"
KIND = "HTTPRoute"


def ref(parent: Raw, name: str) -> Ref:
    """An HTTPRoute in the parent's namespace."""
    return Ref(API_VERSION, KIND, parent["metadata"]["namespace"], name)


def unread(observed: Observed, route: Ref) -> Cause | None:
    """Why the HTTPRoute cannot be read; None where it can."""
    why = observed.unread.get(route)
    if why is None:
        return None
    said = {
        Unread.NO_SUCH_KIND: f"the API server does not know HTTPRoute of {API_VERSION}: its CRDs are not installed",
        Unread.FORBIDDEN: f"the operator may not read HTTPRoutes of {API_VERSION}",
    }
    return Cause(Reason.GATEWAY_API_MISSING, f"{said[why]}; requests go to the Service only")


def owner(live: Raw | None) -> Raw | None:
    """The controller that the HTTPRoute belongs to, by its ownerReference."""
    return next((each for each in dig(live, "metadata", "ownerReferences") or () if each.get("controller")), None)


def ours(parent: Raw, live: Raw | None) -> bool:
    """Whether it was made for that parent, and goes with it."""
    by = owner(live)
    return by is not None and by["uid"] == parent["metadata"]["uid"]


def refused(said: Iterable[Raw]) -> Cause | None:
    """What controllers have against the HTTPRoute, each by the newest that it has said; they have said something."""
    told = list(said)
    if not told:
        quiet = "the Gateway's controller has said nothing of the HTTPRoute yet; requests go to the Service only"
        return Cause(Reason.GATEWAY_STARTING, quiet)
    for one in told:
        for kind in ("Accepted", "ResolvedRefs"):
            if no := _no(one, kind):
                why = f"{kind} is False, {no.get('reason')}: {no.get('message', '')}"
                return Cause(Reason.ROUTE_NOT_ACCEPTED, f"{one.get('controllerName')} says of the HTTPRoute: {why}")
    return None


def parents(live: Raw | None) -> list[Raw]:
    """What has been said, by parent."""
    return list(dig(live, "status", "parents") or ())


def accepting(said: Iterable[Raw]) -> list[Raw]:
    """Those that take the HTTPRoute; all where none does."""
    told = list(said)
    return [one for one in told if not _no(one, "Accepted")] or told


def _no(said: Raw, kind: str) -> Raw | None:
    """The condition of that type where it is False."""
    found = (c for c in said.get("conditions") or () if c.get("type") == kind and c.get("status") == "False")
    return next(found, None)
