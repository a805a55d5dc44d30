"""`pilotboat rollout VERB NAME`: what a person may ask of a rollout, written into the spec of the ModelDeployment.

Owns: the verbs' arguments, the patch each makes, and how a rollout's status is printed. Must not know: what the
operator does about it. Only `spec.rollout` is written, as `kubectl patch` would, with the caller's own credentials.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from pilotboat import cluster_cli
from pilotboat.api.rollout import RolloutPhase, Verb
from pilotboat.cluster_cli import Refused
from pilotboat.engine.api import Api
from pilotboat.engine.kinds import MODEL_DEPLOYMENT

Raw = Mapping[str, Any]
ACTIONS = {verb.lower(): verb for verb in Verb}
VERBS = ("status", *ACTIONS, "pause", "resume", "undo")
PROMOTED = "Promoted"
"""Outcome of a rollout that was not given up; what came without steps has no record."""


def add(commands: Any) -> None:
    """The arguments of `pilotboat rollout`."""
    words = "Look at a rollout, or steer it: approve, skip, promote, abort, retry, pause, resume, undo."
    parser: argparse.ArgumentParser = commands.add_parser("rollout", help=words, description=words)
    parser.add_argument("verb", choices=VERBS)
    cluster_cli.add_deployment(parser)
    words = "with undo: an earlier revision; left out, the one before"
    parser.add_argument("--to", metavar="REVISION", type=cluster_cli.given, help=words)
    words = f"with {', '.join(ACTIONS)}: the one you looked at; refused where it is not the canary (any more)"
    parser.add_argument("--revision", type=cluster_cli.given, help=words)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    return cluster_cli.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    if arguments.to and arguments.verb != "undo":
        raise Refused("--to goes with undo only")
    if arguments.revision and arguments.verb not in ACTIONS:
        raise Refused(f"--revision goes with {', '.join(ACTIONS)} only")
    async with Api(await cluster_cli.credentials(arguments)) as api:
        namespace = cluster_cli.namespace(arguments)
        found = await api.get(MODEL_DEPLOYMENT, namespace, arguments.name)
        if found is None:
            raise Refused(f"there is no ModelDeployment {arguments.name} in namespace {namespace}")
        if arguments.verb == "status":
            print("\n".join(map(cluster_cli.printable, told(found))))
            return 0
        asked = patch(found, arguments.verb, arguments.to or arguments.revision)
        await api.merge(MODEL_DEPLOYMENT, namespace, arguments.name, {"spec": {"rollout": asked}})
    whom = f" for revision {asked['action']['revision']}" if "action" in asked else ""
    print(f"{arguments.verb}: written to spec.rollout of {arguments.name}{whom}; `pilotboat rollout status` shows it.")
    return 0


def patch(found: Raw, verb: str, revision: str | None = None) -> dict[str, Any]:
    """The merge patch of spec.rollout for a verb; `revision`: what undo returns to, or of whom the rest is asked.
    Raises Refused where it could have no effect."""
    status = found.get("status") or {}
    if verb in ("pause", "resume"):
        return {"paused": verb == "pause"}
    if verb == "undo":
        return {"rollbackTo": revision or _before(status)}
    if not status.get("rollout"):
        raise Refused("no rollout with steps is under way")
    asked = _asked(status, ACTIONS[verb], revision)
    if why := _idle(found, ACTIONS[verb]):
        raise Refused(why)
    return {"action": {"verb": str(ACTIONS[verb]), "id": uuid.uuid4().hex[:12], "revision": asked}}


def _asked(status: Raw, verb: Verb, looked_at: str | None) -> str:
    """The revision that is to hear the verb: the canary, or the next one where that is on its way out and the caller
    says so. Raises Refused where he looked at another."""
    canary, stable, next_ = status["rollout"]["canary"], status["rollout"]["stable"], status.get("updateRevision")
    if status["rollout"]["phase"] != RolloutPhase.DRAINING or verb in (Verb.ABORT, Verb.RETRY):
        if looked_at in (None, canary):
            return str(canary)
        raise Refused(f"the canary is {canary}, and not {looked_at}: `status` shows where it stands")
    if next_ in (None, canary, stable):
        raise Refused(f"{canary} is on its way out, and nothing comes after it that could be asked")
    if looked_at != next_:
        raise Refused(f"{canary} is on its way out, for {next_} was pushed: `--revision {next_}` asks that one")
    return str(next_)


def _idle(found: Raw, verb: Verb) -> str | None:
    """Why the verb would be heard, and change nothing; None where it may change something."""
    rollout = found["status"]["rollout"]
    phase, canary = rollout["phase"], rollout["canary"]
    if phase == RolloutPhase.ABORTED:
        return None if verb is Verb.RETRY else f"{canary} was given up: `retry` begins anew with it"
    if verb is Verb.RETRY:
        return f"{canary} was not given up ({phase}), so there is nothing to try again"
    if phase == RolloutPhase.PROMOTING:
        return None if verb is Verb.ABORT else f"{canary} is being promoted already"
    if verb is Verb.APPROVE and phase not in (RolloutPhase.AWAITING_APPROVAL, RolloutPhase.DRAINING):
        return _unasked(found, rollout)
    return None


def _unasked(found: Raw, rollout: Raw) -> str | None:
    """Why there is nothing to approve: approval is for the step it is in, and gone with it."""
    planned = ((found.get("spec") or {}).get("rollout") or {}).get("steps") or ()
    # As plan/steps.py finds it in steps that were edited.
    here = [step for step in planned if step["weight"] >= (rollout.get("goal") or 0)] or planned[-1:]
    if not here or here[0].get("approval"):
        return None
    return f"the step at {here[0]['weight']} % waits for no approval; `skip` goes to the next one"


def _before(status: Raw) -> str:
    rollout = status.get("rollout") or {}
    if rollout and rollout.get("phase") != RolloutPhase.ABORTED:
        raise Refused("a canary is under way: `abort` gives it up, `--to REVISION` takes another revision whole")
    current, update = status.get("currentRevision"), status.get("updateRevision")
    if current and update and current != update and not rollout:  # it is replaced, replica by replica
        return str(current)
    others = (current, update, rollout.get("canary"))
    earlier = [str(revision) for revision in status.get("revisions") or () if revision not in others]
    if not earlier:
        raise Refused("no earlier revision is kept; spec.rollout.history says how many are")
    # By age a canary that was given up stands among those that served: it must not get all the traffic unasked.
    fates = {record["revision"]: record["outcome"] for record in reversed(status.get("rollouts") or ())}
    served = [revision for revision in earlier if fates.get(revision, PROMOTED) == PROMOTED]
    if not served:
        told = ", ".join(f"{revision} ({fates[revision]})" for revision in earlier)
        raise Refused(f"no earlier revision that is kept was promoted: {told}; `--to REVISION` takes one all the same")
    return served[-1]


def told(found: Raw) -> Iterator[str]:
    """A rollout in lines."""
    status = found.get("status") or {}
    yield f"serving   {status.get('currentRevision', 'nothing yet')}   earlier: {_list(status.get('revisions'))}"
    if rollout := status.get("rollout"):
        yield f"canary    {rollout['canary']}   {rollout['phase']}, {rollout.get('weight', 0)} % of the traffic"
        yield f"          {rollout.get('message', '')}"
        decision = rollout.get("decision") or {}
        for metric in decision.get("metrics") or ():
            yield f"  {metric['metric']:<12} {metric.get('verdict', '')}: {metric.get('message', '')}"
        for query in decision.get("queries") or ():
            yield f"  {query['name']:<12} {query.get('verdict', '')}: {query.get('message', '')}"
    for record in status.get("rollouts") or ():
        when, why = record.get("finished", ""), record.get("message", "")
        yield f"earlier   {record['revision']} {record['outcome']} {when} {why}"


def _list(names: Any) -> str:
    return ", ".join(names or ()) or "none"
