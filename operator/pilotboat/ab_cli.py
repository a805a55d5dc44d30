"""`pilotboat ab NAME`: what applications posted of a canary and of stable, and whether the difference is settled.

Owns: the table. Must not know: how posts are counted (gateway) and added up (plan/feedback.py). Nothing is written.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from pilotboat.api.outcomes import Outcomes, Result
from pilotboat.engine.api import Api, load_configuration
from pilotboat.engine.errors import ApiError, EngineError
from pilotboat.engine.kinds import MODEL_DEPLOYMENT
from pilotboat.plan.canary.effects import OutcomeEffect
from pilotboat.plan.feedback import Base, effects

Raw = Mapping[str, Any]
COLUMNS = ("outcome", "stable", "canary", "effect", "95 % interval", "")


def add(commands: Any) -> None:
    """The arguments of `pilotboat ab`."""
    words = "The outcomes that applications posted of the canary and of stable, with the difference."
    parser: argparse.ArgumentParser = commands.add_parser("ab", help=words, description=words)
    parser.add_argument("name", help="name of the ModelDeployment")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("--kubeconfig", help="left out: the pod's account, or kubectl's default")
    parser.add_argument(
        "--of", choices=[str(base) for base in Base], default=str(Base.POSTS), help="what shares are of"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the table; the exit code."""
    try:
        print(asyncio.run(_run(arguments)))
    except (EngineError, Nothing) as error:
        print(f"pilotboat: {error.message if isinstance(error, ApiError) else error}", file=sys.stderr)
        return 1
    return 0


class Nothing(Exception):
    """There is no table; the message says why."""


async def _run(arguments: argparse.Namespace) -> str:
    configuration = await load_configuration(arguments.kubeconfig)
    async with Api(configuration) as api:
        found = await api.get(MODEL_DEPLOYMENT, arguments.namespace, arguments.name)
    if found is None:
        raise Nothing(f"there is no ModelDeployment {arguments.name} in namespace {arguments.namespace}")
    return "\n".join(table(found, Base(arguments.of)))


def table(found: Raw, base: Base) -> Iterator[str]:
    """The rollout under way, or else the last that is over, in lines. Raises Nothing where there is none."""
    heading, result = _latest(found.get("status") or {})
    yield heading
    for name, side in (("stable", result.stable), ("canary", result.canary)):
        yield f"{name}: {side.requests} requests answered, {side.posted} outcomes posted"
    told = effects(result, base)
    if not told:
        yield "No application has posted an outcome: POST /v1/feedback with request_id and outcome."
        return
    yield f"shares of {base}:"
    rows = [COLUMNS, *map(_row, told)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _latest(status: Raw) -> tuple[str, Result]:
    """What the table is about, and its figures."""
    try:
        if rollout := status.get("rollout"):
            told = f"canary {rollout['canary']} beside stable {rollout['stable']}, {rollout.get('weight', 0)} %"
            if outcomes := rollout.get("outcomes"):
                known = Outcomes.model_validate(outcomes)
                return f"{told}, since {known.since}, as of {known.time}", known.result
            return told, Result()
        for record in status.get("rollouts") or ():
            if outcomes := record.get("outcomes"):
                told = f"{record['revision']} beside {record['stable']}: {record['outcome']} {record.get('finished')}"
                return told, Result.model_validate(outcomes)
    except (ValidationError, KeyError) as error:
        raise Nothing(f"status is not of a shape that this version knows: {error}") from None
    raise Nothing("no rollout with steps is under way, and no outcome is kept of an earlier one")


def _row(told: OutcomeEffect) -> tuple[str, ...]:
    gap = told.effect
    shares = (f"{100 * told.a.estimate:.1f} %", f"{100 * told.b.estimate:.1f} %", f"{100 * gap.estimate:+.1f}")
    interval = f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
    return (told.outcome, *shares, interval, "settled" if gap.settled else "not yet")
