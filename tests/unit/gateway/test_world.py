"""Routes and endpoints as the API server tells them, good and bad."""

from __future__ import annotations

import json
from typing import Any

from pilotboat.api.routing import Lane, Route
from pilotboat_gateway import world


def route(name: str, port: int) -> Route:
    return Route(deployment=name, port=port, lanes=[Lane(revision="a", service="a", share=1000)])


def config(name: str, text: str) -> dict[str, Any]:
    return {"metadata": {"name": f"{name}-route"}, "data": {"route.json": text}}


def test_what_stood_before_a_bad_route_stays_and_a_new_bad_one_is_left_out() -> None:
    standing = {"chat": route("chat", 20000)}
    found, problems = world.routes([config("chat", "{"), config("new", "{}")], standing)
    assert found == standing
    assert set(problems) == {"chat-route", "new-route"}


def test_a_copy_of_a_route_under_another_name_is_nobodys() -> None:
    """It would bring back the shares of the day when it was made."""
    now, then = route("chat", 20000), route("chat", 20009)
    copies = [config(name, then.to_json()) for name in ("aaa", "chat-old")]
    found, problems = world.routes([*copies, config("chat", now.to_json())], {"aaa": route("aaa", 20001)})
    assert found == {"chat": now, "aaa": route("aaa", 20001)}, "what stood before a bad one stays"
    assert set(problems) == {"aaa-route", "chat-old-route"}


def test_of_a_route_of_a_newer_operator_what_is_known_counts() -> None:
    told = json.loads(route("chat", 20000).to_json())
    told["lanes"][0]["tint"] = told["weather"] = "fair"
    assert world.routes([config("chat", json.dumps(told))], {}) == ({"chat": route("chat", 20000)}, {})


def test_who_has_a_port_keeps_it() -> None:
    configs = [config("aaa", route("aaa", 20000).to_json()), config("chat", route("chat", 20000).to_json())]
    found, problems = world.routes(configs, {"chat": route("chat", 20000)})
    assert set(found) == {"chat"}
    assert problems == {"aaa-route": "port 20000 is chat's"}


def test_endpoints_that_end_are_none_and_ready_in_one_slice_is_ready() -> None:
    def piece(**conditions: bool) -> dict[str, Any]:
        return {
            "metadata": {"labels": {world.SERVICE: "a"}},
            "ports": [{"name": "metrics", "port": 1}, {"name": "http", "port": 80}],
            "endpoints": [{"addresses": ["192.0.2.1"], "conditions": conditions, "targetRef": {"name": "p"}}],
        }

    ready = {"192.0.2.1:80": world.Endpoint("192.0.2.1", 80, "p", True)}
    assert world.endpoints([piece(ready=False), piece(ready=True)])["a"] == ready
    assert world.endpoints([piece()])["a"] == ready
    assert world.endpoints([piece(terminating=True, ready=True)])["a"] == {}
    assert world.endpoints([{**piece(), "addressType": "FQDN"}]) == {}, (
        "HAProxy would refuse it, and all others with it"
    )
