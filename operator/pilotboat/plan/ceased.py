"""How a replica came to serve no more, as its pod tells.

Owns: reading that off a pod. Must not know: losses, and what is told of them.
"""

from __future__ import annotations

from datetime import datetime

from ..api.reasons import Reason
from . import diagnose
from .build import Raw, condition, dig, timestamp


def how(pod: Raw, now: datetime) -> tuple[Reason, str] | None:
    """What ended it, and when; None of one that serves, or never did."""
    at, since = timestamp(now), unready_since(pod)
    if diagnose.ready(pod):
        return None
    if not diagnose.lasting(pod):
        return Reason.POD_LOST, at
    began = dig(pod, "status", "containerStatuses", 0, "state", "running", "startedAt")
    if began and began < since:
        return Reason.POD_UNREADY, since
    ends = [e.finished_at for e in diagnose.endings(pod) if e.container != diagnose.FETCH and e.started_at < since]
    return (Reason.PROCESS_DIED, max(ends) or at) if ends else None


def has(pod: Raw, now: datetime) -> bool:
    """Whether it did serve, and does no more. Kubelet keeps only a container's last end, so one that has died several
    times since tells it by its conditions alone: it was ready after its containers could first be started."""
    could_start = dig(condition(pod, "Initialized"), "lastTransitionTime")
    return how(pod, now) is not None or bool(could_start and could_start < unready_since(pod))


def unready_since(pod: Raw) -> str:
    """For one that never was ready this is before its containers ran; nothing of one that is."""
    said = condition(pod, "Ready") or {}
    return "" if said.get("status") == "True" else said.get("lastTransitionTime") or ""
