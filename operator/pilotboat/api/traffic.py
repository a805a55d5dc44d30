"""How requests reach the replicas of a ModelDeployment, as its user says it.

Owns: Traffic, Routing and their parts. Must not know: gateways, Services, weights.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from .base import Model, ObjectName, OneOf, cel, validations


class Traffic(StrEnum):
    """How requests are split over revisions.

    Gateway: by the namespace's gateway. HTTPRoute: by the Gateway named in routing.gateway, or by those that the
    HTTPRoute named in routing.httpRoute is for. Direct: by nobody, the Service points at the replicas themselves.
    """

    GATEWAY = "Gateway"
    HTTP_ROUTE = "HTTPRoute"
    DIRECT = "Direct"


HttpToken = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_-]+$")]
"""Name of a header or a cookie."""


class Sticky(OneOf):
    """What a caller is known by: the same caller stays with a revision while shares stand still."""

    header: HttpToken | None = Field(None, description="Name of a request's header, such as one with the user's id.")
    cookie: HttpToken | None = Field(None, description="Name of a cookie that the application sets.")


HeaderValue = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+$")]


class TesterHeader(Model):
    """A request that bears this header and value goes to the canary, whatever its weight, while there is one."""

    header: Annotated[HttpToken, Field(description="Name of the header.")]
    value: Annotated[HeaderValue, Field(description="What it must say.")] = "always"


class Mirror(Model):
    """Copies of requests for a canary to learn on: no caller waits for one, or sees its answer."""

    percent: Annotated[
        int, Field(ge=1, le=100, description="Of any 100 requests that stable answers so many, taken by turns.")
    ]


Label = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Hostname = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=253,
        pattern=r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]


class NamedGateway(Model):
    """A Gateway of the Gateway API, which somebody else runs."""

    name: ObjectName
    namespace: Annotated[Label | None, Field(description="The ModelDeployment's own when left out.")] = None
    section_name: Annotated[ObjectName | None, Field(description="One listener of it; all when left out.")] = None


class NamedRoute(Model):
    """An HTTPRoute that somebody else has made, in the ModelDeployment's namespace."""

    name: ObjectName


_STICKY_RULE = cel(
    "!has(self.sticky) || !(has(self.gateway) || has(self.httpRoute))",
    "routing.sticky needs traffic: Gateway: an HTTPRoute has no field that keeps a caller with a revision",
)
_HOSTNAMES_RULE = cel(
    "!has(self.hostnames) || self.hostnames.size() == 0 || has(self.gateway)",
    "routing.hostnames need routing.gateway: they are what it knows the requests by",
)


_ROUTE_RULE = cel(
    "!has(self.gateway) || !has(self.httpRoute)",
    "give one of routing.gateway, for which an HTTPRoute is made, and routing.httpRoute, which names one that exists",
)


class Routing(Model, json_schema_extra=validations(_STICKY_RULE, _HOSTNAMES_RULE, _ROUTE_RULE)):
    """How the gateway treats requests."""

    testers: TesterHeader | None = Field(None, description="What marks requests that are to go to the canary.")

    sticky: Sticky | None = Field(
        None, description="What a caller is known by, so that it stays with one revision; nothing when left out."
    )
    mirror: Mirror | None = Field(
        None, description="Copy requests that stable answers to the canary's idle slots; its answers are thrown away."
    )
    gateway: NamedGateway | None = Field(None, description="For traffic HTTPRoute: the Gateway that splits requests.")
    http_route: NamedRoute | None = Field(
        None,
        description="For traffic HTTPRoute: an HTTPRoute that exists. The rules that name this ModelDeployment's "
        "Service get the weights, and nothing else of it is changed.",
    )
    hostnames: Annotated[
        list[Hostname],
        Field(max_length=16, description="For traffic HTTPRoute: the hosts whose requests these are; all when empty."),
    ] = Field(default_factory=list)

    @property
    def by_route(self) -> bool:
        """Whether an HTTPRoute is to split the traffic."""
        return self.gateway is not None or self.http_route is not None

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.gateway and self.http_route:
            raise ValueError(_ROUTE_RULE["message"])
        if self.sticky and self.by_route:
            raise ValueError(_STICKY_RULE["message"])
        if self.hostnames and not self.gateway:
            raise ValueError(_HOSTNAMES_RULE["message"])
        return self
