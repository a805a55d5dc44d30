"""The planner of ModelDeployments that share a host name with other clusters: the plain one, and this beside it.

Owns: putting the two together. Must not know: how either comes about.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from ..api.conditions import Condition
from ..api.dns import Dns, DnsStatus, ExternalDnsSource
from . import build, dns_annotations, dns_status, external_dns, outcome
from .build import Raw, dig
from .types import Observed, Plan, Planner, PlanSettings, Questions, Ref


class WithDns:
    """See Planner. What is not about the host name is `inner`'s, untouched."""

    def __init__(self, inner: Planner) -> None:
        self._inner = inner

    def references(self, parent: Raw) -> tuple[Ref, ...]:
        """What the plain planner asks for, and the DNSEndpoint."""
        return (*self._inner.references(parent), *external_dns.references(parent))

    def wants_evidence(self, parent: Raw) -> bool:
        """As the plain planner."""
        return self._inner.wants_evidence(parent)

    def asks(self, parent: Raw) -> Questions | None:
        """As the plain planner."""
        return self._inner.asks(parent)

    def plan(self, observed: Observed, settings: PlanSettings, now: datetime) -> Plan:
        """The plain plan with what is told of the host name, and what external-dns reads where that is asked for."""
        endpoint = external_dns.ref(observed.parent)
        others = {ref: why for ref, why in observed.rejected.items() if ref != endpoint}
        plan = self._inner.plan(replace(observed, rejected=others), settings, now)
        known = outcome.read(DnsStatus, dig(observed.parent, "status", "dns"))
        if plan.status is None or not (known or observed.dns or dig(observed.parent, "spec", "zones", "dns")):
            return plan
        wanted = _wanted(observed.parent)
        left = known is None or known.records is None or (observed.dns is not None and observed.dns.status is None)
        if wanted and wanted.external_dns and left:
            return _external(plan, observed, wanted, known, now)
        return _shared(plan, observed, known, now)


def _wanted(parent: Raw) -> Dns | None:
    try:
        return Dns.model_validate(dig(parent, "spec", "zones", "dns"))
    except ValidationError:  # told by SpecValid
        return None


def _shared(plan: Plan, observed: Observed, known: DnsStatus | None, now: datetime) -> Plan:
    """What the engine has done at the name server; a record by way of external-dns is no longer asked for."""
    spec = dig(observed.parent, "spec", "zones", "dns")
    kept = known if known and (known.records or spec) else None
    told = observed.dns.status if observed.dns else kept
    trouble = observed.dns.trouble if observed.dns else None
    generation = int(observed.parent["metadata"].get("generation", 0))
    conditions = [dns_status.condition(told, trouble, generation)] if spec or trouble else []
    if observed.dns is None and spec:
        standing = [c for c in outcome.previous(observed.parent) if c.type == "DnsReady"]
        conditions = [c.model_copy(update={"observed_generation": generation}) for c in standing] or conditions
    if not spec or _wanted(observed.parent):  # one that cannot be read withdraws nothing
        plan = _recorded(plan, observed, None)
    return _with(plan, observed, told, conditions, known, now)


def _external(plan: Plan, observed: Observed, wanted: Dns, known: DnsStatus | None, now: datetime) -> Plan:
    assert plan.status is not None
    generation = int(observed.parent["metadata"].get("generation", 0))
    found = outcome.read_all(Condition, plan.status["conditions"])
    told, wait = external_dns.step(wanted, known, external_dns.available(found), now)
    where = (dns_annotations if told.source is ExternalDnsSource.SERVICE else external_dns).ref(observed.parent)
    cause = external_dns.trouble(observed, where) or external_dns.words(wanted, told, wait)
    condition = dns_status.condition(told, (cause.reason, cause.message) if cause else None, generation)
    plan = _recorded(plan, observed, wanted if told.answer else None)
    return _with(plan, observed, told, [condition], known, now, wait)


def _recorded(plan: Plan, observed: Observed, wanted: Dns | None) -> Plan:
    """The plan with this region's record where external-dns is to read it, and nowhere else; None: nowhere at all."""
    source = wanted.external_dns.source if wanted and wanted.external_dns else None
    endpoint = external_dns.ref(observed.parent)
    live = observed.references.get(endpoint)
    annotations = dns_annotations.of(wanted) if wanted and source is ExternalDnsSource.SERVICE else {}
    apply, gone = dns_annotations.put(observed, plan.apply, annotations), plan.delete
    if wanted and source is ExternalDnsSource.DNS_ENDPOINT:
        made = () if endpoint in observed.unread else (external_dns.manifest(observed.parent, wanted),)
        apply = (*apply, *made)
    elif live and _owned(observed.parent, live):
        gone = (*gone, endpoint)
    return replace(plan, apply=apply, delete=gone)


def _with(
    plan: Plan,
    observed: Observed,
    told: DnsStatus | None,
    conditions: list[Condition],
    known: DnsStatus | None,
    now: datetime,
    wait: timedelta | None = None,
) -> Plan:
    assert plan.status is not None
    merged = outcome.merged(observed.parent, conditions, build.timestamp(now))
    status = {**plan.status, "conditions": [*plan.status["conditions"], *(c.wire() for c in merged)]}
    if told:
        status["dns"] = told.wire()
    moved = dns_status.moved(known, told)
    news = (*moved, *outcome.events(outcome.previous(observed.parent), merged))
    waits = [each for each in (plan.requeue_after, wait) if each]
    return replace(
        plan,
        status=status,
        events=(*plan.events, *news),
        requeue_after=min(waits, default=None),
    )


def _owned(parent: Raw, live: Raw) -> bool:
    owners = dig(live, "metadata", "ownerReferences") or ()
    return any(owner.get("controller") and owner["uid"] == parent["metadata"]["uid"] for owner in owners)
