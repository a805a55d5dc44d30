"""What is rehearsed, as the cluster shows it: replicas, where they are, and whether all is well.

Owns: reading raw objects into these. Must not know: the file, faults, how objects are got.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..plan.build import condition

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """One replica."""

    name: str
    uid: str
    node: str
    ready: bool
    leaving: bool
    restarts: int
    container: str
    port: int | None
    address: str = ""


@dataclass(frozen=True)
class World:
    """A deployment at one moment."""

    told: str
    """What messages call it."""
    want: int
    pods: tuple[Pod, ...]
    fit: str | None
    """Why it is not whole; None: it is."""
    busy: str | None = None
    """Why no fault may be made however long one waits, such as a canary under way."""
    gateways: tuple[Pod, ...] = ()
    zones: Mapping[str, str] | None = None
    """Zone of each node; None: the nodes were not looked up."""
    recovery: Mapping[str, Any] | None = None
    """`status.recovery.last`."""

    @property
    def serving(self) -> tuple[Pod, ...]:
        """Replicas that are ready and stay."""
        return tuple(pod for pod in self.pods if pod.ready and not pod.leaving)


def pod(raw: Raw, container: str | None = None) -> Pod:
    """A pod; without a name of its container, its first."""
    meta, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    containers = spec.get("containers") or [{"name": container or "server"}]
    main = next((c for c in containers if c["name"] == container), containers[0])
    ran: Raw = next((s for s in status.get("containerStatuses") or () if s["name"] == main["name"]), {})
    ports = main.get("ports") or ()
    first = next((p["containerPort"] for p in ports if p.get("name") == "http"), None)
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        node=spec.get("nodeName") or "",
        ready=(condition(raw, "Ready") or {}).get("status") == "True",
        leaving=bool(meta.get("deletionTimestamp")),
        restarts=int(ran.get("restartCount") or 0),
        container=main["name"],
        port=first if first is not None else next((p["containerPort"] for p in ports), None),
        address=status.get("podIP") or "",
    )


def pods(raws: Iterable[Raw], container: str | None = None) -> tuple[Pod, ...]:
    """Pods that are not over, by name."""
    lasting = (raw for raw in raws if (raw.get("status") or {}).get("phase") not in ("Succeeded", "Failed"))
    return tuple(sorted((pod(raw, container) for raw in lasting), key=lambda each: each.name))


def model_deployment(raw: Raw, replicas: tuple[Pod, ...], gateways: tuple[Pod, ...]) -> World:
    """Ours."""
    meta, status = raw["metadata"], raw.get("status") or {}
    told = f"ModelDeployment {meta['namespace']}/{meta['name']}"
    want = _wanted(raw.get("spec") or {})
    unmet = _unmet(raw, ("Available", "Ready")) or _too_few(replicas, want)
    rollout = status.get("rollout")
    busy = f"{told}: a rollout is under way (canary {rollout.get('canary')})" if rollout else None
    last = (status.get("recovery") or {}).get("last")
    return World(told, want, replicas, unmet, busy, gateways, recovery=last if isinstance(last, Mapping) else None)


def control(raw: Raw, replicas: tuple[Pod, ...]) -> World:
    """The plain Deployment beside it."""
    meta, status = raw["metadata"], raw.get("status") or {}
    want = int((raw.get("spec") or {}).get("replicas", 1))
    seen = status.get("observedGeneration") == meta.get("generation")
    whole = seen and status.get("availableReplicas") == status.get("updatedReplicas") == want
    fit = _too_few(replicas, want) or (None if whole else "not all of its replicas are available")
    return World(f"Deployment {meta['namespace']}/{meta['name']}", want, replicas, fit)


def _wanted(spec: Raw) -> int:
    """As ModelDeploymentSpec.wanted: the spare replicas too, where there are any replicas."""
    replicas, spare = int(spec.get("replicas", 1)), int((spec.get("zones") or {}).get("spare") or 0)
    return replicas + spare if replicas else 0


def _unmet(raw: Raw, kinds: Iterable[str]) -> str | None:
    generation = raw["metadata"].get("generation")
    for kind in kinds:
        found = condition(raw, kind) or {}
        if found.get("status") != "True":
            return f"{kind} is {found.get('status', 'not known yet')}: {found.get('reason')}: {found.get('message')}"
        if found.get("observedGeneration", generation) != generation:
            return f"{kind} is of an earlier generation of its spec"
    return None


def _too_few(replicas: tuple[Pod, ...], want: int) -> str | None:
    """Pods that leave are counted too: what they still do would be taken for the fault's work."""
    ready = sum(each.ready and not each.leaving for each in replicas)
    if ready == want == len(replicas):
        return None
    return f"{ready} of {want} replicas are ready, of {len(replicas)} pods"
