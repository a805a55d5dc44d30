"""Which region callers are sent to, by the address a name server answers.

Owns: what a user says of it (`zones.dns`), and what is told of it (`status.dns`). Must not know: DNS messages, nor who
decides.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from .base import Model, Shape, Status, TimeLimit, cel, shaped, validations
from .sources import SecretKey
from .traffic import Label

MAX_REGIONS = 16
"""Regions that may share a host name: what is kept of them in DNS and in status is bounded by it."""

_NAME = r"[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9])?(\.[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9])?)*"
DnsName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    *shaped(Shape(_NAME, "must be a DNS name in lower case, without a dot at its end and without '*'")),
]


_ADDRESS_RULE = cel("isIP(self)", "must be an IPv4 or IPv6 address")


def _address(value: str) -> str:
    """In its one canonical form, so that it can be compared with what a name server answers."""
    try:
        address = ip_address(value)
    except ValueError:
        raise ValueError(_ADDRESS_RULE["message"]) from None
    if address.version == 6 and (address.ipv4_mapped or address.scope_id):  # as the API server's rule has it
        raise ValueError(_ADDRESS_RULE["message"])
    return str(address)


def _once(addresses: list[str]) -> list[str]:
    """Two that were written differently may be the same."""
    return list(dict.fromkeys(addresses))


Address = Annotated[
    str,
    StringConstraints(min_length=2, max_length=45),
    AfterValidator(_address),
    Field(json_schema_extra=validations(_ADDRESS_RULE)),
]


_LABEL = "[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?"
_SERVER = rf"{_LABEL}(\.{_LABEL})*|[0-9a-fA-F]*:[0-9a-fA-F.:]+"
"""What begins with hexadecimal digits and a colon is an IPv6 address, or no name that is found."""


class DnsFailbackMode(StrEnum):
    """Manual: answers stay where they are until the region that has them fails."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class DnsFailback(Model):
    """When a preferred region gets its callers back."""

    after: TimeLimit = Field(
        "5m", description="How long it must have been healthy; doubled with each failover, up to 1h, for six hours."
    )
    mode: DnsFailbackMode = DnsFailbackMode.AUTOMATIC


class TsigAlgorithm(StrEnum):
    """Hashes that name servers take for TSIG today."""

    SHA256 = "hmac-sha256"
    SHA384 = "hmac-sha384"
    SHA512 = "hmac-sha512"


class Tsig(Model):
    """The key that signs what is asked of the name server."""

    name: DnsName = Field(description="Name of the key, as the name server knows it.")
    algorithm: TsigAlgorithm = TsigAlgorithm.SHA256
    secret_ref: SecretKey = Field(description="Secret whose value is the key itself, in base64 as key files have it.")


class Rfc2136(Model):
    """A name server that takes dynamic updates, and that all regions share."""

    server: Annotated[
        str,
        StringConstraints(min_length=1, max_length=253),
        *shaped(Shape(_SERVER, "must be a host name or an IP address")),
    ] = Field(description="The primary of the zone; a secondary or a resolver will not do.")
    port: Annotated[int, Field(ge=1, le=65535)] = 53
    zone: DnsName = Field(description="The zone that hostname is in, as the server has it.")
    tsig: Tsig


ProviderField = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-zA-Z0-9/._-]+$")]
ProviderValue = Annotated[str, StringConstraints(min_length=1, max_length=255)]


class ExternalDnsSource(StrEnum):
    """What external-dns reads: it runs with `--source=crd` or with `--source=service`."""

    DNS_ENDPOINT = "DNSEndpoint"
    SERVICE = "Service"


_END = "[-._a-zA-Z0-9]*[a-zA-Z0-9]"
_ANNOTATED = Shape(
    rf"((aws|coredns|scw|webhook)/|external-dns\.(alpha\.)?kubernetes\.io/cloudflare-){_END}|azure/tags",
    "providerSpecific: with source Service only aws/..., azure/tags, coredns/..., scw/..., webhook/... and "
    "Cloudflare's annotations by their whole names",
)
_ANNOTATED_RULE = cel(
    "!has(self.source) || self.source != 'Service' || !has(self.providerSpecific)"
    f" || self.providerSpecific.all(name, name.matches(r'^(?:{_ANNOTATED.pattern})$'))",
    _ANNOTATED.message,
    ".providerSpecific",
)


class ExternalDns(Model, json_schema_extra=validations(_ANNOTATED_RULE)):
    """external-dns, which runs in the cluster, tells the DNS provider what this region answers."""

    source: Annotated[
        ExternalDnsSource,
        Field(description="What external-dns is to read: an object of its own kind, or annotations on our Service."),
    ] = ExternalDnsSource.DNS_ENDPOINT
    provider_specific: Annotated[
        dict[ProviderField, ProviderValue],
        Field(max_length=16, description="The provider's own fields, such as aws/failover: PRIMARY."),
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _annotated(self) -> Self:
        if self.source is ExternalDnsSource.SERVICE and not all(map(_ANNOTATED.holds, self.provider_specific)):
            raise ValueError(_ANNOTATED.message)
        return self


_ONE_RULE = cel("has(self.rfc2136) != has(self.externalDNS)", "give exactly one of rfc2136, externalDNS")
_ZONE_RULE = cel(
    "!has(self.rfc2136) || self.hostname == self.rfc2136.zone || self.hostname.endsWith('.' + self.rfc2136.zone)",
    "hostname must be in rfc2136.zone",
)
_MANUAL_RULE = cel(
    "!has(self.externalDNS) || !has(self.failback) || !has(self.failback.mode) || self.failback.mode == 'Automatic'",
    "failback.mode Manual needs rfc2136: with external-dns a region does not know of the others",
)


class Dns(Model, json_schema_extra=validations(_ONE_RULE, _ZONE_RULE, _MANUAL_RULE)):
    """One host name for several clusters, of which one is answered."""

    hostname: DnsName = Field(description="What callers ask for; the same in every region.")
    region: Annotated[Label, Field(description="What this cluster is called; another name in every region.")]
    targets: Annotated[
        list[Address],
        AfterValidator(_once),
        Field(min_length=1, max_length=8, description="Addresses at which callers reach this region."),
    ]
    priority: Annotated[int, Field(ge=0, le=1000, description="Of healthy regions the lowest is answered.")] = 0
    ttl: Annotated[int, Field(ge=1, le=3600, description="Seconds that resolvers may keep the answer.")] = 5
    failback: DnsFailback = Field(default_factory=DnsFailback)
    rfc2136: Rfc2136 | None = None
    external_dns: Annotated[ExternalDns | None, Field(alias="externalDNS")] = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.rfc2136 is None) == (self.external_dns is None):
            raise ValueError(_ONE_RULE["message"])
        if self.rfc2136 and not f".{self.hostname}".endswith(f".{self.rfc2136.zone}"):
            raise ValueError(_ZONE_RULE["message"])
        if self.external_dns and self.failback.mode is DnsFailbackMode.MANUAL:
            raise ValueError(_MANUAL_RULE["message"])
        return self


class DnsRegion(Status):
    """A region, as this one sees it."""

    name: str
    healthy: bool
    """By its own word, and it is heard of."""
    targets: list[str] = Field(default_factory=list)


class DnsStatus(Status):
    """Where callers of the host name are sent."""

    hostname: str
    region: str
    answer: Annotated[str | None, Field(description="Region whose addresses are answered.")] = None
    targets: Annotated[list[str], Field(description="These addresses.")] = Field(default_factory=list)
    since: Annotated[str | None, Field(json_schema_extra={"format": "date-time"})] = None
    moves: Annotated[int | None, Field(description="How often the answer has gone from one region to another.")] = None
    hold_down: Annotated[
        str | None, Field(description="How long a region must have been healthy before it is preferred again.")
    ] = None
    why: Annotated[str | None, Field(description="Why the answer moved last.")] = None
    regions: Annotated[list[DnsRegion], Field(max_length=MAX_REGIONS)] = Field(default_factory=list)
    records: Annotated[
        Rfc2136 | None, Field(description="Where records of this region are, so that they can be taken away.")
    ] = None
    source: Annotated[
        ExternalDnsSource | None, Field(description="What external-dns reads of this region, where it is asked.")
    ] = None
