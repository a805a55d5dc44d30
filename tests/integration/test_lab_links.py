"""The lab's link faults on real links: namespaces and bridge of a lab, with nothing running in them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from lab import faults, net, procs
from lab.layout import BadName, Lab, Node, beside
from lab.outside import ADDRESS, Outside

ANSWER = """
import contextlib, socket
s = socket.socket(type=socket.SOCK_DGRAM)
s.bind(("", 9))
print("up", flush=True)
while True:
    asked = s.recvfrom(9)
    with contextlib.suppress(PermissionError):
        s.sendto(*asked)
"""
ASK = """
import socket, sys
s = socket.socket(type=socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[3]))
heard = 0
for _ in range(int(sys.argv[2])):
    try:
        s.sendto(b"?", (sys.argv[1], 9))
        heard += s.recvfrom(9)[0] == b"?"
    except OSError:
        pass
print(heard)
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab(f"links-{os.getpid()}")
    net.create(made)
    yield made
    net.remove(made)


@pytest.fixture
def answering(lab: Lab) -> Iterator[Node]:
    """The second node, which sends back what it is sent."""
    node = lab.nodes[1]
    with serving(node.netns):
        yield node


@contextmanager
def serving(netns: str) -> Iterator[None]:
    """Somebody there sends back what he is sent, while the block runs."""
    process = subprocess.Popen(
        [*procs.in_netns(netns), sys.executable, "-c", ANSWER], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
        yield
    finally:
        process.kill()
        process.communicate()


def heard(lab: Lab, node: Node, times: int = 1, patience: float = 5) -> int:
    """How many of so many questions of the first node are answered, each in so many seconds."""
    return asked(lab.nodes[0].netns, node.address, times, patience)


def asked(netns: str, address: str, times: int = 1, patience: float = 0.3) -> int:
    """How many of so many questions from a namespace are answered."""
    command = [*procs.in_netns(netns), sys.executable, "-c", ASK, address, str(times), str(patience)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_cut_link_carries_nothing_and_is_healed(lab: Lab, answering: Node) -> None:
    assert heard(lab, answering) == 1
    faults.cut(answering)
    assert heard(lab, answering, patience=0.3) == 0
    faults.mend(answering)
    assert heard(lab, answering, 3) >= 1


@pytest.mark.parametrize("way", list(faults.Way))
def test_one_way(lab: Lab, answering: Node, way: faults.Way) -> None:
    faults.cut_one_way(answering, way)
    assert heard(lab, answering, patience=0.3) == 0
    assert (received(answering) > 0) is (way is faults.Way.OUT)
    faults.mend(answering)
    assert heard(lab, answering) == 1
    faults.mend(answering)  # of a whole link: nothing to do


def received(node: Node) -> int:
    """Datagrams that came to programs on the node."""
    command = [*procs.in_netns(node.netns), "cat", "/proc/net/snmp"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Udp:"))
    return int(dict(zip(names, values, strict=True))["InDatagrams"])


def test_lost_packets(lab: Lab, answering: Node) -> None:
    faults.lose(answering, 50, faults.Way.IN)
    assert 0 < heard(lab, answering, 30, patience=0.3) < 30
    faults.mend(answering)
    assert heard(lab, answering, 10) == 10


def test_a_slow_link(lab: Lab, answering: Node) -> None:
    faults.slow(answering, "1mbit")
    shown = subprocess.run(
        ["tc", "-n", answering.netns, "qdisc", "show", "dev", "eth0"], capture_output=True, text=True, check=True
    )
    assert "rate 1Mbit" in shown.stdout
    assert heard(lab, answering) == 1
    faults.mend(answering)
    shown = subprocess.run(
        ["tc", "-n", answering.netns, "qdisc", "show", "dev", "eth0"], capture_output=True, text=True, check=True
    )
    assert "tbf" not in shown.stdout


@pytest.fixture
def outside(lab: Lab) -> Iterator[Outside]:
    """Joined by the lab and another, of which no process runs either."""
    other, made = beside(lab, f"other-{os.getpid()}"), Outside(lab.name)
    made.create()
    net.create(other)
    for each in (lab, other):
        made.join(each)
    yield made
    made.remove()
    net.remove(other)


def test_a_lab_is_reached_from_outside_and_reaches_it_until_its_link_is_cut(
    lab: Lab, outside: Outside, answering: Node
) -> None:
    assert asked(outside.netns, answering.address, patience=5)
    with serving(outside.netns):
        assert asked(answering.netns, ADDRESS, patience=5)
        outside.cut(lab)
        assert not asked(answering.netns, ADDRESS)
        assert not asked(outside.netns, answering.address)
        outside.mend(lab)
        assert asked(answering.netns, ADDRESS, patience=5)
    assert asked(outside.netns, answering.address, patience=5)


def test_a_lab_does_not_reach_another(lab: Lab, outside: Outside, answering: Node) -> None:
    other = beside(lab, f"other-{os.getpid()}")
    assert asked(outside.netns, answering.address, patience=5)
    assert not asked(other.nodes[0].netns, answering.address)


def test_a_thread_goes_outside_and_its_processes_with_it(outside: Outside) -> None:
    def found() -> tuple[str, str]:
        outside.enter()
        child = subprocess.run(["readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True)
        return os.readlink("/proc/thread-self/ns/net"), child.stdout.strip()

    with ThreadPoolExecutor(1) as pool:
        own, childs = pool.submit(found).result()
    assert own == childs != os.readlink("/proc/thread-self/ns/net")


def test_zones_and_nodes_by_name(lab: Lab) -> None:
    assert faults.named(lab, "zone-2") == faults.named(lab, "n2") == [lab.nodes[1]]
    with pytest.raises(BadName, match="no 'zone-9'"):
        faults.named(lab, "zone-9")
