"""What a cluster has beside its components: names by DNS, and a default storage class. Manifests and one process.

It must not know how the control plane and nodes were started.
"""

from __future__ import annotations

from pathlib import Path

from lab import build, configs
from lab.kube import Client, Object
from lab.layout import DNS_ADDRESS
from lab.plane import Plane

STORAGE_CLASS = "lab"
PROVISIONER = "lab.pilotboat.dev/directory"


def dns_service() -> Object:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": DNS_ADDRESS, "ports": ports},
    }


def dns_endpoints(address: str) -> Object:
    """The Service has no selector: its only endpoint is a process beside the control plane."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "lab"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


def storage_class() -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def start_dns(plane: Plane) -> None:
    path = plane.lab.dir / "conf" / "Corefile"
    path.write_text(configs.corefile(plane.at.address, plane.conf("admin")))
    command: list[str | Path] = [build.ensure() / "coredns", "-conf", path]
    plane.processes.spawn("coredns", command, log=plane.lab.logs / "coredns.log", netns=plane.netns)


def apply(client: Client, address: str) -> None:
    system = "/api/v1/namespaces/kube-system/services/kube-dns"
    slices = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns"
    client.apply(system, dns_service())
    client.apply(slices, dns_endpoints(address))
    client.apply(f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}", storage_class())
