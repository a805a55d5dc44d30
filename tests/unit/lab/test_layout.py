"""Two labs never share a name, a path or an address range; a bad name is refused before anything is made."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from lab import layout
from lab.layout import BadName, Lab
from tools.steps import StepFailed


@pytest.mark.parametrize("name", ["", "Upper", "a_b", "-a", "a-", "x" * 21, "a/b", "../a"])
def test_a_name_that_cannot_name_a_namespace_is_refused(name: str) -> None:
    with pytest.raises(BadName):
        Lab(name)


def test_every_address_of_a_lab_lies_in_its_ranges_and_is_its_own() -> None:
    lab = Lab()
    addresses = [lab.address, *(node.address for node in lab.nodes)]
    assert len(set(addresses)) == 4
    pods = ipaddress.ip_network(lab.pod_cidr)
    ranges = [ipaddress.ip_network(node.pod_cidr) for node in lab.nodes]
    assert all(isinstance(each, ipaddress.IPv4Network) and each.subnet_of(pods) for each in ranges)  # type: ignore[arg-type]
    assert not any(ipaddress.ip_address(address) in pods for address in addresses)
    services = ipaddress.ip_network(layout.SERVICE_CIDR)
    assert ipaddress.ip_address(layout.DNS_ADDRESS) in services
    assert not services.overlaps(pods)


def test_two_labs_differ_in_namespaces_paths_and_addresses() -> None:
    one, two = Lab(), Lab("two")
    assert not {one.netns, *(n.netns for n in one.nodes)} & {two.netns, *(n.netns for n in two.nodes)}
    assert one.dir != two.dir
    assert one.pod_cidr != two.pod_cidr


def test_a_lab_beside_another_shares_no_address_with_it() -> None:
    for number in range(100):
        first = Lab(f"lab-{number}")
        second = layout.beside(first, f"lab-{number}-west")
        assert second.index != first.index
        assert second.name.startswith(f"{first.name}-west")
    assert layout.beside(Lab(), "pilotboat-west").name == "pilotboat-west"


@pytest.mark.parametrize("name", ["pilotboat", "two", "a", "x" * 20, "zz-9"])
def test_addresses_are_valid_whatever_the_name(name: str) -> None:
    for node in Lab(name).nodes:
        ipaddress.ip_address(node.address)
        ipaddress.ip_network(node.pod_cidr)


def test_nodes_lie_in_three_zones() -> None:
    assert [node.zone for node in Lab().nodes] == ["zone-1", "zone-2", "zone-3"]
    assert Lab().node("n2").zone == "zone-2"
    with pytest.raises(BadName, match="n1, n2, n3"):
        Lab().node("n9")


def test_the_cache_and_the_lab_are_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PILOTBOAT_CACHE", str(tmp_path))
    monkeypatch.setenv("LAB", "two")
    assert layout.current().dir == tmp_path / "lab" / "two"
    monkeypatch.delenv("LAB")
    assert layout.current().name == layout.DEFAULT


def test_a_socket_path_fits_into_what_the_kernel_allows() -> None:
    """108 bytes; with the default cache of a user whose home is of ordinary length."""
    node = Lab("x" * 20).nodes[0]
    for socket in (f"{node.containerd_socket}.ttrpc", f"{node.dir}/kubelet/pod-resources/4294967295"):
        relative = Path(socket).relative_to(layout.cache())
        assert len(str(Path("/home/somebody-quite-long/.cache/pilotboat") / relative)) < 108


@pytest.mark.parametrize("text", ["abc", "0", "-1", "1e3", "99999", "nan"])
@pytest.mark.parametrize("variable", ["LAB_NODE_GRACE", "LAB_PATIENCE"])
def test_what_is_no_number_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(StepFailed, match=f"{variable} is a number from 1 to 9999, which '{text}' is not"):
        layout.check(Lab())


def test_numbers_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LAB_NODE_GRACE", "LAB_PATIENCE"):
        monkeypatch.setenv(variable, "")
    assert (layout.node_grace(), layout.patience()) == (None, 1)
    monkeypatch.setenv("LAB_NODE_GRACE", "20")
    monkeypatch.setenv("LAB_PATIENCE", "1.5")
    assert (layout.node_grace(), layout.patience()) == (20, 1.5)
    monkeypatch.setenv("LAB_GPUS", "0")
    assert layout.number("LAB_GPUS", least=0) == 0


def test_a_cache_too_deep_for_sockets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab("two")
    under = "/lab/two/n1/kubelet/pod-resources/4294967295"
    monkeypatch.setenv("PILOTBOAT_CACHE", f"/{'x' * (layout.SOCKET - len(under) - 2)}")
    layout.check(lab)
    monkeypatch.setenv("PILOTBOAT_CACHE", f"/{'x' * (layout.SOCKET - len(under) - 1)}")
    with pytest.raises(StepFailed, match="107 bytes of path, not 108; set PILOTBOAT_CACHE to a shorter one"):
        layout.check(lab)
