"""What is told of a shared host name, the record by way of external-dns, and what a spec may say of either."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pilotboat.api.crd import KINDS
from pilotboat.api.dns import Dns, DnsStatus
from pilotboat.plan import PLANNERS, dns_annotations, external_dns
from pilotboat.plan.dns_records import Beat, State, beat_of, reading, state_of
from pilotboat.plan.types import Observed, Plan, Ref, Refusal, RegionState, Rejection, Unread
from unit.plan.world import NOW, SETTINGS, Pod, Raw, check_schema, condition, deployment_spec, observed, parent

PLANNER = PLANNERS["modeldeployments"]
MDEP = next(kind for kind in KINDS if kind.kind == "ModelDeployment")
RFC2136: Raw = {"server": "192.0.2.53", "zone": "example.org", "tsig": {"name": "k", "secretRef": {"name": "s"}}}
DNS: Raw = {"hostname": "chat.example.org", "region": "east", "targets": ["192.0.2.1", "2001:db8::1"]}
SHARED = DNS | {"rfc2136": RFC2136}
EXTERNAL = DNS | {"externalDNS": {"providerSpecific": {"aws/failover": "PRIMARY"}}}
ANNOTATED = DNS | {"externalDNS": EXTERNAL["externalDNS"] | {"source": "Service"}}


def planned(dns: Raw | None, state: RegionState | None = None, status: Raw | None = None, **more: Any) -> Plan:
    zones = {"zones": {"dns": dns}} if dns else {}
    made = parent("ModelDeployment", "chat", deployment_spec(**zones), status=status)
    return PLANNER.plan(observed(made, dns=state, **more), SETTINGS, NOW)


def told(**changes: Any) -> DnsStatus:
    known = {"hostname": "chat.example.org", "region": "east", "answer": "east", "moves": 0, "records": RFC2136}
    return DnsStatus.model_validate(known | changes)


def ready(plan: Plan) -> Raw:
    return condition(plan.status, "DnsReady")


def test_without_zones_dns_nothing_is_told_of_it() -> None:
    plan = planned(None)
    assert plan.status is not None
    assert "dns" not in plan.status
    assert "DnsReady" not in {c["type"] for c in plan.status["conditions"]}


def test_before_the_name_server_was_asked_nothing_is_promised() -> None:
    assert (ready(planned(SHARED))["status"], ready(planned(SHARED))["reason"]) == ("False", "DnsStarting")


def test_who_is_answered_is_told_and_fits_the_schema() -> None:
    plan = planned(SHARED, RegionState(told(answer="west", targets=["192.0.2.2"], moves=1, holdDown="300s")))
    assert plan.status is not None
    check_schema(MDEP, plan.status)
    assert plan.status["dns"]["answer"] == "west"
    assert ready(plan)["status"] == "True"
    assert ready(plan)["message"] == "chat.example.org answers with region west; east stands by"


def test_a_trouble_is_told_beside_what_was_known() -> None:
    plan = planned(SHARED, RegionState(told(), ("DnsServerUnreachable", "no answer within 4 s")))
    assert plan.status is not None
    assert plan.status["dns"]["answer"] == "east"
    assert (ready(plan)["status"], ready(plan)["reason"]) == ("False", "DnsServerUnreachable")
    assert [event.reason for event in plan.events if event.reason.startswith("Dns")] == ["DnsServerUnreachable"]


def test_a_restart_keeps_what_stood_until_more_is_known() -> None:
    before = planned(SHARED, RegionState(told())).status
    plan = planned(SHARED, None, before)
    assert plan.status is not None
    assert before is not None
    assert plan.status["dns"] == before["dns"]
    assert ready(plan) == condition(before, "DnsReady")


def test_a_move_is_an_event_once() -> None:
    before = planned(SHARED, RegionState(told())).status
    moved = told(answer="west", targets=["192.0.2.2"], moves=1, why="east is not heard of, for 20 s")
    plan = planned(SHARED, RegionState(moved), before)
    (event,) = [event for event in plan.events if event.reason == "DnsMoved"]
    words = "chat.example.org answers with region west (192.0.2.2), not east: east is not heard of, for 20 s"
    assert (event.type, event.message) == ("Normal", words)
    after = planned(SHARED, RegionState(moved), plan.status)
    assert not [event for event in after.events if event.reason == "DnsMoved"]


def test_records_that_still_have_to_go_stay_in_status_until_they_are_gone() -> None:
    before = planned(SHARED, RegionState(told())).status
    still, over = planned(None, RegionState(told()), before), planned(None, RegionState(None), before)
    assert still.status is not None
    assert over.status is not None
    assert still.status["dns"]["records"]["zone"] == "example.org"
    assert "dns" not in over.status


ENDPOINT = Ref(external_dns.API_VERSION, "DNSEndpoint", "ml", "chat")
SERVICE = Ref("v1", "Service", "ml", "chat")
BOTH = pytest.mark.parametrize("dns", [EXTERNAL, ANNOTATED], ids=["DNSEndpoint", "Service"])


class Exported:
    """A ModelDeployment by way of external-dns over time; `serves` is what Available says."""

    def __init__(self, dns: Raw | None = EXTERNAL) -> None:
        self.now = NOW
        self.status: Raw | None = None
        self.live: Raw | None = None
        self.service: Raw | None = None
        self.dns = dns
        self.spec: Raw = {"traffic": "Direct"}

    @property
    def annotations(self) -> Raw:
        assert self.service is not None
        found: Raw = self.service["metadata"].get("annotations", {})
        return found

    @property
    def there(self) -> bool:
        """Whether external-dns finds a record of this region."""
        return self.live is not None or bool(self.annotations)

    def after(self, seconds: float, serves: bool) -> Plan:
        self.now += timedelta(seconds=seconds)
        spec = deployment_spec(**self.spec, **({"zones": {"dns": self.dns}} if self.dns else {}))
        made = parent("ModelDeployment", "chat", spec, status=copy.deepcopy(self.status))
        pods = [Pod("chat-1", revision="any").serving()] if serves else []
        live = {ref: self.live for ref in PLANNER.references(made) if ref == ENDPOINT}
        seen: Observed = observed(made, pods, [self.service] if self.service else [], references=live)
        plan = PLANNER.plan(seen, SETTINGS, self.now)
        self.status = plan.status
        applied = {Ref.of(manifest): manifest for manifest in plan.apply}
        self.live = None if ENDPOINT in plan.delete else applied.get(ENDPOINT, self.live)
        self.service = applied.get(SERVICE, self.service)
        return plan


def test_the_record_comes_with_the_first_replica_and_is_withdrawn_after_a_while() -> None:
    world = Exported()
    assert ready(world.after(0, False))["reason"] == "DnsStarting"
    assert world.live is None
    plan = world.after(5, True)
    words = "external-dns is told that chat.example.org answers with this region; whether it does is not known here"
    assert ready(plan)["message"] == words
    assert world.live is not None
    assert [(e["recordType"], e["targets"]) for e in world.live["spec"]["endpoints"]] == [
        ("A", ["192.0.2.1"]),
        ("AAAA", ["2001:db8::1"]),
    ]
    assert world.live["spec"]["endpoints"][0]["providerSpecific"] == [{"name": "aws/failover", "value": "PRIMARY"}]
    plan = world.after(60, False)
    assert world.live is not None
    assert plan.requeue_after is not None
    assert plan.requeue_after <= timedelta(seconds=15)
    plan = world.after(15, False)
    assert world.live is None
    assert (ready(plan)["status"], ready(plan)["reason"]) == ("False", "DnsWithdrawn")


@BOTH
def test_the_record_returns_after_the_hold_down_which_doubles(dns: Raw) -> None:
    world = Exported(dns)
    world.after(0, True)
    for hold in (300, 600, 1200, 2400, 3600, 3600):
        world.after(60, False)
        world.after(15, False)
        world.after(1, True)
        world.after(hold - 1, True)
        assert not world.there
        world.after(1, True)
        assert world.there


@BOTH
def test_twenty_minutes_of_flapping_move_the_record_twice_at_most(dns: Raw) -> None:
    world = Exported(dns)
    world.after(0, True)
    changes = 0
    for number in range(120):
        before = world.there
        world.after(10, number // 3 % 2 == 1)
        changes += before != world.there
    assert changes <= 2


def test_on_the_service_the_record_comes_with_the_first_replica_and_is_withdrawn_after_a_while() -> None:
    world = Exported(ANNOTATED)
    assert ready(world.after(0, False))["reason"] == "DnsStarting"
    assert world.annotations == {}
    plan = world.after(5, True)
    assert plan.status is not None
    check_schema(MDEP, plan.status)
    assert (ready(plan)["reason"], plan.status["dns"]["source"]) == ("DnsAnswered", "Service")
    for prefix in ("external-dns.alpha.kubernetes.io", "external-dns.kubernetes.io"):
        assert {
            name.partition("/")[2]: v for name, v in world.annotations.items() if name.startswith(f"{prefix}/")
        } == {
            "hostname": "chat.example.org",
            "target": "192.0.2.1,2001:db8::1",
            "ttl": "5",
            "set-identifier": "east",
            "aws-failover": "PRIMARY",
        }
    plan = world.after(60, False)
    assert world.annotations
    assert plan.requeue_after is not None
    assert plan.requeue_after <= timedelta(seconds=15)
    plan = world.after(15, False)
    assert world.annotations == {}
    assert (ready(plan)["status"], ready(plan)["reason"]) == ("False", "DnsWithdrawn")
    assert world.live is None


@BOTH
@pytest.mark.parametrize(
    ("fields", "given"),
    [
        ({}, None),
        ({"aws/health-check-id": "1", "webhook/weight": "1"}, None),
        ({"aws/weight": "1"}, "east"),
        ({"aws/geolocation-country-code": "NZ"}, "east"),
    ],
)
def test_a_record_has_an_identifier_only_where_the_provider_has_several_of_one_name(
    dns: Raw, fields: Raw, given: str | None
) -> None:
    world = Exported(dns | {"externalDNS": dns["externalDNS"] | {"providerSpecific": fields}})
    world.after(0, True)
    found = [world.annotations.get(prefix + "set-identifier") for prefix in dns_annotations.PREFIXES]
    if world.live:
        found = [endpoint.get("setIdentifier") for endpoint in world.live["spec"]["endpoints"]]
    assert found == [given, given]


def test_providers_fields_have_the_names_that_external_dns_reads() -> None:
    whole = "external-dns.alpha.kubernetes.io/cloudflare-proxied"
    fields = {"aws/health-check-id": "1", "webhook/a.b": "2", whole: "true"}
    made = dns_annotations.of(
        Dns.model_validate(DNS | {"externalDNS": {"source": "Service", "providerSpecific": fields}})
    )
    said = ("hostname", "target", "ttl", "aws-health-check-id", "webhook-a.b")
    assert set(made) == {prefix + name for prefix in dns_annotations.PREFIXES for name in said} | {whole}


@BOTH
def test_a_spec_that_cannot_be_served_still_lets_the_record_be_withdrawn(dns: Raw) -> None:
    world = Exported(dns)
    world.after(0, True)
    before = world.service
    assert before is not None
    before["spec"] |= {"clusterIP": "10.0.0.7", "type": "ClusterIP"}
    world.spec["inference"] = {"batchSize": 0}
    assert condition(world.after(5, True).status, "SpecValid")["status"] == "False"
    assert world.there
    world.after(5, False)
    plan = world.after(15, False)
    assert not world.there
    assert ready(plan)["reason"] == "DnsWithdrawn"
    applied = [manifest["spec"] for manifest in plan.apply if Ref.of(manifest) == SERVICE]
    ours = {key: before["spec"][key] for key in ("selector", "ports")}
    assert applied == ([ours] if dns is ANNOTATED else []), "what others have set is not taken over"


@BOTH
def test_a_zones_dns_that_cannot_be_read_withdraws_nothing(dns: Raw) -> None:
    world = Exported(dns)
    world.after(0, True)
    world.dns = dns | {"ttl": 0}
    plan = world.after(5, True)
    assert world.there
    assert ready(plan)["reason"] == "DnsAnswered"


def test_the_record_goes_from_one_source_to_the_other_and_is_not_left_behind() -> None:
    world = Exported()
    world.after(0, True)
    world.dns = ANNOTATED
    world.after(5, True)
    assert world.live is None
    assert world.annotations
    made = parent("ModelDeployment", "chat", deployment_spec(zones={"dns": ANNOTATED}), status=world.status)
    assert ENDPOINT not in PLANNER.references(made), "its CRD need not be there"
    world.dns = EXTERNAL
    world.after(5, True)
    assert world.live is not None
    assert world.annotations == {}


@BOTH
def test_without_zones_dns_the_record_goes(dns: Raw) -> None:
    world = Exported(dns)
    world.after(0, True)
    world.dns = None
    plan = world.after(5, True)
    assert not world.there
    assert plan.status is not None
    assert "dns" not in plan.status


def test_from_annotations_to_a_name_server_of_ones_own() -> None:
    world = Exported(ANNOTATED)
    world.after(0, True)
    world.dns = SHARED
    world.after(5, True)
    assert not world.there


@pytest.mark.parametrize(
    ("why", "reason"), [(Unread.NO_SUCH_KIND, "ExternalDnsMissing"), (Unread.FORBIDDEN, "DnsNotPermitted")]
)
def test_a_kind_that_is_missing_or_forbidden_is_told(why: Unread, reason: str) -> None:
    plan = planned(EXTERNAL, pods=[Pod("chat-1", revision="any").serving()], unread={ENDPOINT: why})
    assert ready(plan)["reason"] == reason
    assert ENDPOINT not in {Ref.of(manifest) for manifest in plan.apply}


def test_a_refused_record_is_no_fault_of_the_pods() -> None:
    rejected = {ENDPOINT: Rejection(Refusal.FORBIDDEN, "not allowed")}
    plan = planned(EXTERNAL, pods=[Pod("chat-1", revision="any").serving()], rejected=rejected)
    assert ready(plan)["reason"] == "DnsNotPermitted"
    assert "DNSEndpoint" not in str(condition(plan.status, "Ready"))


def test_a_service_that_is_refused_is_told_as_it_is() -> None:
    rejected = {SERVICE: Rejection(Refusal.NAME_TAKEN, "was made by somebody else")}
    plan = planned(ANNOTATED, pods=[Pod("chat-1", revision="any").serving()], rejected=rejected)
    assert ready(plan)["reason"] == "DnsNotPermitted"
    assert ready(plan)["message"] == "Service chat: was made by somebody else"
    assert condition(plan.status, "Ready")["reason"] == "NameTaken"


def by_service(*names: str) -> Raw:
    return DNS | {"externalDNS": {"source": "Service", "providerSpecific": dict.fromkeys(names, "x")}}


BAD: list[tuple[Raw, str]] = [
    *(
        (by_service("aws/weight", bad), "providerSpecific: with source Service only")
        for bad in ("alias", "aws/", "aws/a/b")
    ),
    (by_service("ibmcloud/proxied"), "providerSpecific: with source Service only"),
    (by_service("external-dns.kubernetes.io/hostname"), "providerSpecific: with source Service only"),
    (DNS | {"externalDNS": {"source": "Ingress"}}, "'DNSEndpoint' or 'Service'"),
    (DNS, "exactly one of rfc2136, externalDNS"),
    (DNS | {"rfc2136": RFC2136, "externalDNS": {}}, "exactly one of rfc2136, externalDNS"),
    (SHARED | {"hostname": "chat.example.net"}, "hostname must be in rfc2136.zone"),
    (SHARED | {"hostname": "chatexample.org"}, "hostname must be in rfc2136.zone"),
    (SHARED | {"targets": ["lb.example.org"]}, "must be an IPv4 or IPv6 address"),
    (SHARED | {"targets": ["::ffff:192.0.2.1"]}, "must be an IPv4 or IPv6 address"),
    (SHARED | {"targets": []}, "at least 1 item"),
    (SHARED | {"ttl": 0}, "greater than or equal to 1"),
    (SHARED | {"region": "East"}, "String should match"),
    (SHARED | {"hostname": "*.example.org"}, "must be a DNS name"),
    *(
        (SHARED | {"rfc2136": RFC2136 | {"server": bad}}, "must be a host name or an IP address")
        for bad in ("http://ns", "ns1..example.org", f"{'a' * 64}.example.org", "ns.example.org.", "-ns", "ns:53")
    ),
    (EXTERNAL | {"failback": {"mode": "Manual"}}, "failback.mode Manual needs rfc2136"),
    (SHARED | {"failback": {"after": "0s"}}, "must be longer than 0s"),
]


@pytest.mark.parametrize(("bad", "words"), BAD)
def test_bad_input_is_refused_in_words(bad: Raw, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Dns.model_validate(bad)


@pytest.mark.parametrize(
    "server",
    ["ns", "NS-1.example.org", f"{'a' * 63}.example.org", "192.0.2.1", "2001:db8::1", "::1", "::ffff:192.0.2.1"],
)
def test_a_name_server_has_a_name_or_an_address(server: str) -> None:
    Dns.model_validate(SHARED | {"rfc2136": RFC2136 | {"server": server}})


def test_targets_are_told_once_however_they_are_written() -> None:
    targets = ["2001:db8::1", "192.0.2.1", "2001:DB8:0::1", "192.0.2.1"]
    assert Dns.model_validate(SHARED | {"targets": targets}).targets == ["2001:db8::1", "192.0.2.1"]


NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
NUMBERS = st.integers(0, 2**31)
ADDRESSES = st.lists(st.ip_addresses().map(str), min_size=1, max_size=8).map(tuple)


@given(
    st.builds(
        Beat,
        region=NAMES,
        owner=NAMES,
        count=st.integers(0, 2**62),
        healthy=st.booleans(),
        priority=NUMBERS,
        up=NUMBERS,
        held=NUMBERS,
        targets=ADDRESSES,
        at=NUMBERS,
    )
)
def test_a_beat_is_read_as_it_was_written(beat: Beat) -> None:
    assert beat_of(beat.text()) == beat


@given(st.builds(State, region=NAMES, moves=NUMBERS, hold=NUMBERS))
def test_a_state_is_read_as_it_was_written(state: State) -> None:
    assert state_of(state.text()) == state


@given(st.lists(st.text(max_size=200), max_size=5), st.text(max_size=200))
def test_whatever_stands_in_dns_does_no_harm(beats: list[str], state: str) -> None:
    seen = reading(beats, state, (), None)
    assert (seen.known, seen.told) == ({}, None)


def test_a_time_that_cannot_be_is_no_beat() -> None:
    text = Beat("east", "u", 1, True, 0, 5, 5, ("192.0.2.1",), int(datetime(2026, 1, 1).timestamp())).text()
    assert beat_of(text) is not None
    assert beat_of(text.replace("up=5", "up=-1")) is None
    assert beat_of(text.replace("v=1", "v=2")) is None
    assert beat_of(text.replace("192.0.2.1", "192.0.2.1,nowhere")) is None
