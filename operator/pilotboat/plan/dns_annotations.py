"""This region's record as annotations on the ModelDeployment's own Service, which external-dns may read instead.

Owns: what they say, and how they get onto the Service. Must not know: when there is a record (external_dns.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..api.dns import Dns
from . import build, external_dns, routes
from .build import Raw, dig
from .types import Manifest, Observed, Ref

PREFIXES = ("external-dns.alpha.kubernetes.io/", "external-dns.kubernetes.io/")
"""Before external-dns 0.22, and since: it heeds the one and ignores the other, so both are written."""


def ref(parent: Raw) -> Ref:
    """The Service of a ModelDeployment that its callers use."""
    return Ref("v1", "Service", parent["metadata"]["namespace"], parent["metadata"]["name"])


def of(wanted: Dns) -> dict[str, str]:
    """The whole record. It has targets, or external-dns would pass over a Service of type ClusterIP."""
    assert wanted.external_dns is not None
    said = {
        "hostname": wanted.hostname,
        "target": ",".join(wanted.targets),
        "ttl": str(wanted.ttl),
    }
    if region := external_dns.identifier(wanted):
        said["set-identifier"] = region
    whole = {}
    for name, value in wanted.external_dns.provider_specific.items():
        if name.startswith(PREFIXES):
            whole[name] = value
        else:
            said[name.replace("/", "-")] = value
    return {prefix + name: value for prefix in PREFIXES for name, value in said.items()} | whole


def put(observed: Observed, applied: tuple[Manifest, ...], annotations: Mapping[str, str]) -> tuple[Manifest, ...]:
    """What is applied, with these annotations on the Service, or with none of ours.

    A plan that leaves the Service alone, because the spec cannot be served, still lets a record be withdrawn.
    """
    where = ref(observed.parent)
    if any(Ref.of(manifest) == where for manifest in applied):
        return tuple(_noted(each, annotations) if Ref.of(each) == where else each for each in applied)
    live = build.named(observed.children, where.kind, where.name)
    there = any(name.startswith(PREFIXES) for name in dig(live, "metadata", "annotations") or ())
    return (*applied, routes.unchanged(live, annotations)) if live and (annotations or there) else applied


def _noted(service: Manifest, annotations: Mapping[str, str]) -> Manifest:
    noted = {"annotations": dict(annotations)} if annotations else {}
    return {**service, "metadata": {**service["metadata"], **noted}}
