"""What the API server tells: routes that can be used, and the endpoints of every service.

Owns: reading ConfigMaps and EndpointSlices, and which routes stand when one is bad. Must not know: HAProxy, HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pilotboat.api.routing import ROUTE, Route

Raw = Mapping[str, Any]
SERVICE = "kubernetes.io/service-name"
PORT_NAME = "http"


@dataclass(frozen=True)
class Endpoint:
    """One pod's place. One that ends is none: its streams go on, and nothing new goes there."""

    address: str
    port: int
    pod: str
    ready: bool
    zone: str = ""


def routes(configs: Iterable[Raw], standing: Mapping[str, Route]) -> tuple[dict[str, Route], dict[str, str]]:
    """Usable routes by deployment, and by ConfigMap why one is not; what stood before a bad one stays."""
    found: dict[str, Route] = {}
    problems: dict[str, str] = {}
    kept = {config_map(name): route for name, route in standing.items()}
    for config in configs:
        name = config["metadata"]["name"]
        try:
            route = Route.load(config["data"][ROUTE])
        except (KeyError, TypeError, ValidationError) as error:
            problems[name] = _words(error)
        else:
            if name == config_map(route.deployment):
                found[route.deployment] = route
                continue
            problems[name] = f"the route of {route.deployment} is the ConfigMap {config_map(route.deployment)}"
        if name in kept:
            found[kept[name].deployment] = kept[name]
    return _one_a_port(found, standing, problems), problems


def config_map(deployment: str) -> str:
    """Name of a route's ConfigMap. One of another name is a copy that somebody made, with shares of then."""
    return f"{deployment}-route"


def _one_a_port(found: dict[str, Route], standing: Mapping[str, Route], problems: dict[str, str]) -> dict[str, Route]:
    """Two deployments on one port would mix their traffic: who had it keeps it."""
    holders: dict[int, str] = {}

    def newcomer(name: str) -> bool:
        return name not in standing or standing[name].port != found[name].port

    for name in sorted(found, key=lambda name: (newcomer(name), name)):
        holder = holders.setdefault(found[name].port, name)
        if holder != name:
            problems[config_map(name)] = f"port {found[name].port} is {holder}'s"
    return {name: found[name] for name in sorted(holders.values())}


def _words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"no {ROUTE}"


def endpoints(slices: Iterable[Raw]) -> dict[str, dict[str, Endpoint]]:
    """By service and `address:port`. A pod may be in two slices while it moves between them: ready in one is ready."""
    found: dict[str, dict[str, Endpoint]] = {}
    for each in slices:
        port = _port(each)
        if port is None or each.get("addressType") == "FQDN":  # HAProxy takes addresses alone
            continue
        service = found.setdefault(each["metadata"].get("labels", {}).get(SERVICE, ""), {})
        for endpoint in each.get("endpoints") or ():
            if (read := _endpoint(endpoint, port)) is None:
                continue
            key = f"{read.address}:{read.port}"
            if key not in service or read.ready:
                service[key] = read
    return found


def leaves(slices: Iterable[Raw], address: str | None) -> bool:
    """Whether the pod at this address is being ended: who has a connection to it should make another elsewhere."""
    ends = (endpoint for each in slices for endpoint in each.get("endpoints") or ())
    return any(
        address in (endpoint.get("addresses") or ()) and (endpoint.get("conditions") or {}).get("terminating")
        for endpoint in ends
    )


def _port(each: Raw) -> int | None:
    ports = {port.get("name"): port.get("port") for port in each.get("ports") or ()}
    return ports.get(PORT_NAME) or next(iter(ports.values()), None)


def _endpoint(endpoint: Raw, port: int) -> Endpoint | None:
    conditions, addresses = endpoint.get("conditions") or {}, endpoint.get("addresses") or ()
    if conditions.get("terminating") or not addresses:
        return None
    pod = (endpoint.get("targetRef") or {}).get("name") or addresses[0]
    return Endpoint(addresses[0], port, pod, conditions.get("ready") is not False, endpoint.get("zone") or "")
