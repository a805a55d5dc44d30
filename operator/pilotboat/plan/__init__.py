"""The pure core: (what the user wants, what is, now) -> what to do.

Owns: every decision. Must not know: the cluster, the network, the clock; asyncio, kopf, kubernetes are forbidden here.
"""

from __future__ import annotations

from ..api.crd import FINE_TUNE_JOB, MODEL_DEPLOYMENT
from ..api.labels import GATEWAYS
from .deployment import ModelDeploymentPlanner
from .deployment_dns import WithDns
from .finetune import FineTuneJobPlanner
from .gateway import GatewayPlanner
from .types import Planner

PLANNERS: dict[str, Planner] = {
    MODEL_DEPLOYMENT.plural: WithDns(ModelDeploymentPlanner()),
    FINE_TUNE_JOB.plural: FineTuneJobPlanner(),
    GATEWAYS: GatewayPlanner(),
}
"""Plural of a parent kind to its planner."""
