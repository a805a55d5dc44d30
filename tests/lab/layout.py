"""Where everything of a lab is and what it is called: paths, addresses, names of namespaces and cgroups.

Pure, save that it reads the environment for the cache's place. It must not create or start anything.
"""

from __future__ import annotations

import itertools
import os
import re
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tools.steps import StepFailed

DEFAULT = "pilotboat"
DNS_ADDRESS = "10.96.0.10"
SERVICE_ADDRESS = "10.96.0.1"
SERVICE_CIDR = "10.96.0.0/16"
REGION = "lab"
ZONES = 3
SOCKET = 108
"""Bytes of a socket's path, the last of which is a zero."""


class BadName(StepFailed):
    """The lab's name cannot name network namespaces."""


def cache() -> Path:
    return Path(os.environ.get("PILOTBOAT_CACHE") or Path.home() / ".cache" / "pilotboat").absolute()


@dataclass(frozen=True)
class Node:
    """One node: a network namespace with a containerd, a kubelet and a kube-proxy of its own."""

    lab: Lab
    number: int

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def zone(self) -> str:
        return f"zone-{self.number}"

    @property
    def netns(self) -> str:
        return f"pb-{self.lab.name}-{self.name}"

    @property
    def cgroup(self) -> str:
        return self.netns

    @property
    def address(self) -> str:
        return f"10.89.{self.lab.index}.{10 + self.number}"

    @property
    def pod_cidr(self) -> str:
        return f"10.{160 + self.lab.index}.{self.number}.0/24"

    @property
    def dir(self) -> Path:
        return self.lab.dir / self.name

    @property
    def containerd_root(self) -> Path:
        return self.dir / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.dir / "containerd.sock"


@dataclass(frozen=True)
class Lab:
    """A named lab. Two labs differ in every name, path and address, so that they may run side by side."""

    name: str = DEFAULT

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", self.name):
            raise BadName(f"A lab's name is 1 to 20 lower-case letters, digits and dashes, which {self.name!r} is not.")

    @property
    def index(self) -> int:
        """Tells labs' address ranges apart. Each lab is closed in its namespaces, so a collision harms nothing, unless
        both are joined to one `Outside`: see `beside`."""
        return 0 if self.name == DEFAULT else 1 + zlib.crc32(self.name.encode()) % 31

    @property
    def dir(self) -> Path:
        return cache() / "lab" / self.name

    @property
    def lock(self) -> Path:
        return cache() / "lab" / f".{self.name}.lock"

    @property
    def logs(self) -> Path:
        return self.dir / "log"

    @property
    def kubeconfig(self) -> Path:
        return self.dir / "kubeconfig"

    @property
    def volumes(self) -> Path:
        return self.dir / "volumes"

    @property
    def netns(self) -> str:
        return f"pb-{self.name}-cp"

    @property
    def address(self) -> str:
        return f"10.89.{self.index}.1"

    @property
    def pod_cidr(self) -> str:
        return f"10.{160 + self.index}.0.0/16"

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(self, number) for number in range(1, ZONES + 1))

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise BadName(f"The lab has the nodes {', '.join(n.name for n in self.nodes)}, and no {name!r}.")


def beside(lab: Lab, name: str) -> Lab:
    """A lab of that name, or of one like it, which shares no address with the first."""
    named = (Lab(f"{name}{number or ''}") for number in itertools.count())
    return next(each for each in named if each.index != lab.index)


def current() -> Lab:
    return Lab(os.environ.get("LAB") or DEFAULT)


def node_grace() -> int | None:
    """LAB_NODE_GRACE: seconds after which a silent node is unheard of, for tests that do not measure just that."""
    found = number("LAB_NODE_GRACE")
    return int(found) if found else None


def patience() -> float:
    """LAB_PATIENCE: how many times longer than on a machine of 2 cores the lab waits, where the machine is emulated."""
    return number("LAB_PATIENCE") or 1


def number(variable: str, least: int = 1) -> float | None:
    """What a variable of the environment says; None where it says nothing."""
    text = os.environ.get(variable, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]+)?", text) or float(text) < least:
        raise StepFailed(f"{variable} is a number from {least} to 9999, which {text!r} is not.")
    return float(text)


def check(lab: Lab) -> None:
    """StepFailed where the environment asks for a lab that cannot be."""
    node_grace(), patience()
    longest = f"{lab.nodes[0].dir}/kubelet/pod-resources/{'0' * 10}"  # where kubelet tries whether it may listen
    if len(longest.encode()) >= SOCKET:
        raise StepFailed(
            f"{cache()} is too long a path: the lab {lab.name} has sockets under it, and the kernel allows them "
            f"{SOCKET - 1} bytes of path, not {len(longest.encode())}; set PILOTBOAT_CACHE to a shorter one."
        )
