"""`pilotboat ab NAME`: what applications posted of a canary and of stable, and whether the difference is settled.

Owns: the table. Must not know: how posts are counted (gateway) and added up (plan/feedback.py). Nothing is written.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from pilotboat import cluster_cli
from pilotboat.api.outcomes import Outcomes, Result
from pilotboat.api.traffic import Traffic
from pilotboat.cluster_cli import Refused
from pilotboat.engine.api import Api
from pilotboat.engine.kinds import MODEL_DEPLOYMENT
from pilotboat.plan.canary.effects import OutcomeEffect
from pilotboat.plan.feedback import Base, effects

Raw = Mapping[str, Any]
COLUMNS = ("outcome", "stable", "canary", "effect", "95 % interval", "")
NOBODY_POSTED = "No application has posted an outcome: POST /v1/feedback with request_id and outcome."
NOBODY_TAKES = "With traffic: HTTPRoute no outcome can be posted: it is our gateway that gives ids and takes outcomes."


def add(commands: Any) -> None:
    """The arguments of `pilotboat ab`."""
    words = "The outcomes that applications posted of the canary and of stable, with the difference."
    parser: argparse.ArgumentParser = commands.add_parser("ab", help=words, description=words)
    cluster_cli.add_deployment(parser)
    parser.add_argument(
        "--of", choices=[str(base) for base in Base], default=str(Base.POSTS), help="what shares are of"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the table; the exit code."""
    return cluster_cli.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    async with Api(await cluster_cli.credentials(arguments)) as api:
        namespace = cluster_cli.namespace(arguments)
        found = await api.get(MODEL_DEPLOYMENT, namespace, arguments.name)
    if found is None:
        raise Nothing(f"there is no ModelDeployment {arguments.name} in namespace {namespace}")
    print("\n".join(table(found, Base(arguments.of))))
    return 0


class Nothing(Refused):
    """There is no table; the message says why."""


def table(found: Raw, base: Base) -> Iterator[str]:
    """The rollout under way, or else the last that is over, in lines. Raises Nothing where there is none."""
    heading, result = _latest(found.get("status") or {})
    yield heading
    for name, side in (("stable", result.stable), ("canary", result.canary)):
        yield f"{name}: {side.requests} requests answered, {side.posted} outcomes posted"
    told = effects(result, base)
    if not told and (result.stable.posted or result.canary.posted):
        yield "No whole minute of requests is counted yet: shares of requests come with the next minutes."
        return
    if not told:
        past_us = (found.get("spec") or {}).get("traffic") == Traffic.HTTP_ROUTE
        yield NOBODY_TAKES if past_us else NOBODY_POSTED
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
    gap, sides = told.effect, (told.a, told.b)
    shares = [f"{100 * side.estimate:.1f} %" if side.known else "-" for side in sides]
    effect, interval = f"{100 * gap.estimate:+.1f}", f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}"
    if not all(side.known for side in sides):
        effect = interval = "-"
    return (cluster_cli.printable(told.outcome), *shares, effect, interval, "settled" if gap.settled else "not yet")
