"""Queries of a user's own, by which a canary is judged besides its traffic.

Owns: spec.rollout.analysis.prometheus. Must not know: how a Prometheus is asked, nor what its answers lead to.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from .analysis import MAX_QUERIES
from .base import BaseUrl, Model, Shape, cel, shaped, validations
from .sources import SecretKey

Bound = Annotated[float, Field(allow_inf_nan=False)]
QueryName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=40),
    *shaped(Shape(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", "must be a name in lower case, such as error-rate")),
]

_BOUNDED = cel("has(self.max) || has(self.min)", "give max, min or both: what the query's value must keep")
_ORDERED = cel("!has(self.max) || !has(self.min) || self.min <= self.max", "min must not be above max")


class Query(Model, json_schema_extra=validations(_BOUNDED, _ORDERED)):
    """A value and its bounds; of several series the worst counts."""

    name: QueryName
    query: Annotated[
        str,
        StringConstraints(min_length=1, max_length=2000),
        Field(description="PromQL; $canary and $stable are the two revisions, $name and $namespace the object's own."),
    ]
    max: Annotated[Bound | None, Field(description="The value must not be above it.")] = None
    min: Annotated[Bound | None, Field(description="The value must not be below it.")] = None
    failures: Annotated[
        int, Field(ge=1, le=100, description="Looks in a row beyond a bound after which the canary is given up.")
    ] = 3

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.max is None and self.min is None:
            raise ValueError(_BOUNDED["message"])
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(_ORDERED["message"])
        return self


_NAMED_ONCE = cel(
    "self.queries.all(q, self.queries.exists_one(r, r.name == q.name))",
    "each query needs a name of its own",
    ".queries",
)


class Prometheus(Model, json_schema_extra=validations(_NAMED_ONCE)):
    """A server that answers PromQL, and what it is asked of a canary."""

    url: BaseUrl = Field(description="Its address, to which /api/v1/query is added.")
    token_secret_ref: SecretKey | None = Field(
        None, description="Secret with a bearer token; the chart's prometheus.tokens lets the operator read it."
    )
    period_seconds: Annotated[int, Field(ge=15, le=300, description="Time between two looks.")] = 30
    queries: Annotated[
        list[Query], Field(min_length=1, max_length=MAX_QUERIES, description="All of them must keep their bounds.")
    ]

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        if len({query.name for query in self.queries}) < len(self.queries):
            raise ValueError(_NAMED_ONCE["message"])
        return self
