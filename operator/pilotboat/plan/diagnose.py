"""Reads live pods and says, in one reason and one sentence, what keeps them from being ready.

Owns: the mapping from kubelet's and the scheduler's words to our reasons. Must not know: whose pods they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..api.model_deployment import Failure
from ..api.reasons import Reason
from ..api.runtime import TerminationReport
from . import memory
from .build import Raw, condition, dig, made
from .outcome import NEUTRAL, Cause

FETCH = "fetch"
"""Name of the init container that fetches."""

MANY_RESTARTS = 2
"""From so many restarts on, a container that died is told as crash looping, whether it waits, runs or has just died."""

_PULL = {
    *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
    *("RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed"),
}
_EVICTED = {"Evicted", "Preempting", "NodeShutdown", "Shutdown", "Terminated", "NodeLost"}
"""Pods that a node put out; what else kubelet says of a failed pod (such as OutOfcpu) is that it refused it."""

_MEMORY, _LIMIT = ("resources", "limits", "memory"), "memoryLimit"
_BACK_OFF = re.compile(r'^Back-off pulling image "[^"]*": (ErrImagePull: )?')
_MISSING_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_MISSING_SECRET = re.compile(r'\bsecrets? "[^"]+" not found|couldn\'t find key \S+ in Secret ')
_MISSING_CONFIG_MAP = re.compile(r'\bconfigmaps? "[^"]+" not found|couldn\'t find key \S+ in ConfigMap ')
_SHORT_OF = re.compile(r"\bInsufficient \S+|\bToo many pods")
_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_CREATED = "{0} is being created; should that last, `kubectl describe pod {0}` names the image or volume it waits for"
_FARTHEST = (Reason.STARTING, Reason.LOADING, Reason.FETCHING)
"""Of pods that only need time, the one told is the one that needs most."""


@dataclass(frozen=True)
class Ended:
    """A container that ended, now or before its last restart."""

    container: str
    exit_code: int
    kubelet_reason: str
    message: str
    started_at: str
    finished_at: str
    memory: str | None = None
    """Its limit, where it had one."""

    @property
    def report(self) -> TerminationReport | None:
        """What the container itself said, where it did."""
        return TerminationReport.parse(self.message)


def cause(pods: Iterable[Raw]) -> Cause | None:
    """The most telling cause among the pods that are not ready; None where all are ready (or there are none)."""
    causes = [found for pod in _telling(pods) if (found := _pod(pod))]
    faults = [found for found in causes if found.fault]
    return faults[0] if faults else max(causes, key=_patience, default=None)


def starved(pod: Raw) -> str | None:
    """The scheduler's words, where the pod cannot be placed for want of something that other pods hold, as a GPU."""
    words = unplaced(pod)
    return words if words and _SHORT_OF.search(words) else None


def unplaced(pod: Raw) -> str | None:
    """The scheduler's words, where it has tried and no node can take the pod."""
    said = _unscheduled(pod)
    return str(said.get("message", "")) if said and said.get("reason") == "Unschedulable" else None


def hopeless(pod: Raw) -> Cause | None:
    """Why the pod will not come up by itself: a container of it dies again and again."""
    dying = any((status.get("restartCount") or 0) >= MANY_RESTARTS for status in _statuses(pod))
    found = _pod(pod) if dying and not ready(pod) else None
    return found if found and found.fault else None


def failure(pods: Iterable[Raw]) -> Failure | None:
    """The latest failure of any container of the pods that are not ready, as status shows it."""
    found = [(e, p) for p in _telling(pods) if not ready(p) for e in endings(p) if e.exit_code != 0]
    if not found:
        return None
    ended, pod = max(found, key=lambda entry: entry[0].finished_at)
    why = explain(ended)
    return Failure(
        location=f"{pod['metadata']['name']}/{ended.container}",
        reason=why.reason,
        message=why.message[:400],
        exit_code=ended.exit_code,
        time=ended.finished_at or None,
    )


def _telling(pods: Iterable[Raw]) -> list[Raw]:
    """Pods that say something about now: those there are, and failed ones that no running one has come after.

    A failed pod stays as a record for days after its replacement serves; where pods keep failing, none runs.
    """
    by_name = sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    there = [pod for pod in by_name if lasting(pod)]
    since = max((made(pod) for pod in there if _any_running(pod)), default="")
    failed = [pod for pod in by_name if dig(pod, "status", "phase") == "Failed" and not _leaving(pod)]
    return there + [pod for pod in failed if made(pod) > since]


def _patience(found: Cause) -> int:
    return _FARTHEST.index(found.reason) if found.reason in _FARTHEST else -1


def _leaving(pod: Raw) -> bool:
    return bool(dig(pod, "metadata", "deletionTimestamp"))


def _any_running(pod: Raw) -> bool:
    return any(dig(status, "state", "running") is not None for status in _statuses(pod))


def endings(pod: Raw) -> Iterator[Ended]:
    """Every container of the pod that ended, init containers first, the latest ending of each."""
    for status in _statuses(pod):
        for state in ("state", "lastState"):
            if ended := _ended(status, state):
                yield ended
                break


def ended_container(pod: Raw, name: str) -> Ended | None:
    """How that container of the pod ended, or None while it has not."""
    return next((ended for ended in endings(pod) if ended.container == name), None)


def ready(pod: Raw) -> bool:
    """Whether the pod's Ready condition is True and it is neither over nor going away."""
    said = condition(pod, "Ready") if lasting(pod) else None
    return said is not None and said.get("status") == "True"


def lasting(pod: Raw) -> bool:
    """Whether the pod is neither over (succeeded, failed, evicted) nor being deleted."""
    return dig(pod, "status", "phase") not in ("Failed", "Succeeded") and not _leaving(pod)


def running(pod: Raw, container: str) -> bool:
    """Whether that container runs now."""
    return any(s.get("name") == container and dig(s, "state", "running") is not None for s in _statuses(pod))


def _unscheduled(pod: Raw) -> Raw | None:
    said = condition(pod, "PodScheduled")
    return said if said and said.get("status") == "False" else None


def _pod(pod: Raw) -> Cause | None:
    if ready(pod) or _leaving(pod):
        return None
    name = pod["metadata"]["name"]
    if dig(pod, "status", "phase") == "Failed" and (why := dig(pod, "status", "reason")):
        reason = Reason.POD_EVICTED if why in _EVICTED else Reason.POD_REJECTED
        return Cause(reason, f"{name}: {dig(pod, 'status', 'message') or why}")
    lost = _lost_readiness_at(pod)
    for status in _statuses(pod):
        if found := _container(status, lost):
            # an image may be on other nodes, or be reached from there
            where = f" on node {dig(pod, 'spec', 'nodeName')}" if found.reason == Reason.IMAGE_PULL_ERROR else ""
            return Cause(found.reason, f"{name}{where}: {found.message}")
    return _unplaced(pod) or _unheard(pod) or Cause(Reason.STARTING, _CREATED.format(name))


def _lost_readiness_at(pod: Raw) -> str:
    """When the pod turned unready; for one that never was ready this is before its containers ran."""
    said = condition(pod, "Ready")
    return (said.get("lastTransitionTime") if said else None) or ""


def _unplaced(pod: Raw) -> Cause | None:
    said = _unscheduled(pod)
    if said is None:
        return None
    name, message = pod["metadata"]["name"], said.get("message", "")
    if said.get("reason") == "SchedulingGated":
        return Cause(Reason.STARTING, f"{name} waits for its scheduling gates, such as a queue's admission")
    if claim := _MISSING_CLAIM.search(message):
        return Cause(Reason.CLAIM_NOT_FOUND, f"PersistentVolumeClaim {claim[1]} does not exist")
    return Cause(Reason.UNSCHEDULABLE, f"{name}: {message}")


def unheard_since(pod: Raw) -> str | None:
    """Since when the pod is unready though all its containers were ready when last heard of: its node is gone."""
    main, said = dig(pod, "status", "containerStatuses") or (), condition(pod, "Ready")
    if not main or not all(status.get("ready") for status in main) or said is None or said.get("status") == "True":
        return None
    return said.get("lastTransitionTime")


def _unheard(pod: Raw) -> Cause | None:
    """All containers were ready when last heard of, and yet the pod is not: its node is gone, or a gate is closed."""
    if unheard_since(pod) is None:
        return None
    said, node = condition(pod, "Ready") or {}, dig(pod, "spec", "nodeName")
    words = said.get("message") or f"its containers were ready when node {node} was last heard of"
    return Cause(Reason.NOT_READY, f"{pod['metadata']['name']}: {words}")


def _container(status: Raw, lost: str) -> Cause | None:
    """What is to be said of one container; None where it is done or ready."""
    name = status["name"]
    looping = (status.get("restartCount") or 0) >= MANY_RESTARTS
    waiting = dig(status, "state", "waiting", "reason")
    last = _ended(status, "lastState")
    if waiting == "CrashLoopBackOff":
        message = dig(status, "state", "waiting", "message") or waiting
        return (
            explain(last, looping=True) if last else Cause(Reason.CRASH_LOOP_BACK_OFF, f"container {name}: {message}")
        )
    if waiting and waiting not in ("ContainerCreating", "PodInitializing"):
        return _waiting(name, waiting, dig(status, "state", "waiting", "message") or "")
    if (ended := _ended(status, "state")) and ended.exit_code != 0:
        return explain(ended, looping)
    if dig(status, "state", "running") is None:
        return None
    return _runs(status, last, looping, lost)


def _runs(status: Raw, last: Ended | None, looping: bool, lost: str) -> Cause | None:
    """What is to be said of a container that runs, by how far it has come since it started."""
    name = status["name"]
    if name == FETCH:
        # A retry that fails again would flip the reason twice a back-off: the failure stands until a fetch succeeds.
        failed = last is not None and last.exit_code != 0
        return explain(last, looping) if last and failed else Cause(Reason.FETCHING, "fetching the model and its files")
    if status.get("ready"):
        return None
    if lost > (dig(status, "state", "running", "startedAt") or ""):
        return Cause(Reason.NOT_READY, f"container {name} runs and does not answer its readiness probe any more")
    if last and last.exit_code != 0:
        return explain(last, looping)
    return Cause(Reason.LOADING, f"container {name} is loading the model")


def _waiting(container: str, reason: str, message: str) -> Cause:
    if reason in _PULL:
        # kubelet alternates between the error and the back-off that quotes it: told as one, status stays at rest
        return Cause(Reason.IMAGE_PULL_ERROR, f"image of container {container}: {_BACK_OFF.sub('', message) or reason}")
    if _MISSING_SECRET.search(message):
        return Cause(Reason.SECRET_NOT_FOUND, f"container {container}: {message}")
    if _MISSING_CONFIG_MAP.search(message):
        return Cause(Reason.CONFIG_MAP_NOT_FOUND, f"container {container}: {message}")
    return Cause(Reason.CONTAINER_CONFIG_ERROR, f"container {container}: {reason}: {message}")


def explain(ended: Ended, looping: bool = False) -> Cause:
    """Why a container ended badly: its own report, kubelet's word, or its last lines."""
    if report := ended.report:
        return Cause(_reported(report.reason), f"container {ended.container}: {report.message}")
    if ended.kubelet_reason == "OOMKilled":
        return Cause(Reason.CONTAINER_OOM_KILLED, memory.killed(ended.container, ended.memory))
    printed = _TERMINAL.sub("", ended.message.replace("\r", "\n"))
    lines = [line.strip() for line in printed.splitlines() if line.strip()][-8:]
    told = f"container {ended.container} exited with {ended.exit_code}"
    reason = Reason.CRASH_LOOP_BACK_OFF if looping else Reason.CONTAINER_FAILED
    return Cause(reason, f"{told}: {' | '.join(lines)}" if lines else told)


def _reported(reason: str) -> Reason:
    """A reason as a container reported it; one that is unknown, or no fault, does not explain a bad ending."""
    known = {str(each): each for each in Reason if each not in NEUTRAL}
    return known.get(reason, Reason.CONTAINER_FAILED)


def _ended(status: Raw, state: str) -> Ended | None:
    raw = dig(status, state, "terminated")
    if raw is None:
        return None
    return Ended(
        container=status["name"],
        exit_code=int(raw.get("exitCode", 0)),
        kubelet_reason=raw.get("reason", ""),
        message=raw.get("message", ""),
        started_at=raw.get("startedAt") or "",
        finished_at=raw.get("finishedAt") or "",
        memory=status.get(_LIMIT),
    )


def _statuses(pod: Raw) -> list[Raw]:
    """What kubelet says of each container, with the memory it may use."""
    kinds = (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses"))
    limits = {c["name"]: dig(c, *_MEMORY) for kind, _ in kinds for c in dig(pod, "spec", kind) or ()}
    return [{**s, _LIMIT: limits.get(s["name"])} for _, kind in kinds for s in dig(pod, "status", kind) or ()]
