"""What the lab's programs are told: configuration files and command lines, rendered from facts. Pure: no I/O at all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lab.layout import DNS_ADDRESS, REGION, SERVICE_CIDR, Lab, Node

PAUSE_IMAGE = "localhost/lab-pause:1"
SNAPSHOTTER = "overlayfs"


@dataclass(frozen=True)
class Endpoints:
    """Where a control plane listens: fixed ports in a namespace of its own, free ones on the host's loopback."""

    address: str
    apiserver: int
    etcd: int
    etcd_peer: int


def etcd(at: Endpoints, data: Path) -> list[str]:
    client, peer = f"http://127.0.0.1:{at.etcd}", f"http://127.0.0.1:{at.etcd_peer}"
    return [
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",  # a lab that loses power starts anew; waiting for the disk would only measure the disk
        "--quota-backend-bytes=8589934592",
        "--auto-compaction-retention=10m",
        "--log-level=warn",
    ]


def apiserver(at: Endpoints, pki: Path) -> list[str]:
    loopback = at.address.startswith("127.")
    return [
        f"--etcd-servers=http://127.0.0.1:{at.etcd}",
        f"--bind-address={'127.0.0.1' if loopback else '0.0.0.0'}",
        f"--advertise-address={at.address}",
        f"--secure-port={at.apiserver}",
        # The Service `kubernetes` may not point at a loopback address, and without nodes nobody asks for it.
        f"--endpoint-reconciler-type={'none' if loopback else 'lease'}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/admin.crt",
        f"--kubelet-client-key={pki}/admin.key",
        "--allow-privileged=true",
        "--profiling=false",
        "--max-requests-inflight=1600",
        "--max-mutating-requests-inflight=800",
    ]


def controllers(lab: Lab, kubeconfig: Path, pki: Path, grace: int | None) -> list[str]:
    """The defaults (20 requests a second, 5 syncs at a time) would throttle every benchmark.

    `grace`: seconds without a sign of life after which a node is unheard of; None: Kubernetes' own 50.
    """
    sooner = [f"--node-monitor-grace-period={grace}s", "--node-monitor-period=2s"] if grace else []
    return [
        *sooner,
        f"--kubeconfig={kubeconfig}",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--cluster-cidr={lab.pod_cidr}",
        "--allocate-node-cidrs=false",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        "--concurrent-deployment-syncs=30",
        "--concurrent-replicaset-syncs=30",
        "--concurrent-service-endpoint-syncs=20",
        "--concurrent-endpoint-syncs=20",
        "--concurrent-job-syncs=20",
        "--concurrent-gc-syncs=40",
        "--concurrent-namespace-syncs=20",
    ]


def scheduler(kubeconfig: Path) -> str:
    return json.dumps(
        {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig), "qps": 1000, "burst": 2000},
            "leaderElection": {"leaderElect": False},
        }
    )


def cni(node: Node) -> str:
    ipam = {
        "type": "host-local",
        "dataDir": str(node.dir / "ipam"),
        "ranges": [[{"subnet": node.pod_cidr}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": "lab", "plugins": plugins})


def containerd(root: Path, state: Path, socket: Path, *, cri: Node | None, cni_bin: Path, restrict_oom: bool) -> str:
    """With `cri`, a node's runtime; without, the store that images are imported into.

    Garbage is collected only where an image is deleted: a blob that was just linked into the store has no owner yet.
    So nothing is collected at the start either, which by default is 100 ms after it, when a fast machine links already.
    """
    head = f"""version = 2
root = "{root}"
state = "{state}"
oom_score = 0
[grpc]
  address = "{socket}"
[plugins."io.containerd.gc.v1.scheduler"]
  startup_delay = "0s"
  mutation_threshold = 0
  deletion_threshold = 0
"""
    if cri is None:
        return 'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n' + head
    return (
        head
        + f"""[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = {str(restrict_oom).lower()}
  netns_mounts_under_state_dir = true
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{cri.dir}/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{cri.dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{SNAPSHOTTER}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{state}/runc"
"""
    )


def kubelet(node: Node, pki: Path, *, cgroup_v2: bool) -> str:
    config: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/{node.name}.crt",
        "tlsPrivateKeyFile": f"{pki}/{node.name}.key",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failSwapOn": False,
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{node.containerd_socket}",
        "enforceNodeAllocatable": ["pods"],
        "resolvConf": "/dev/null",
        "podLogsDir": f"{node.dir}/pods",
        "staticPodPath": "",
        "oomScoreAdj": 0,
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "10s",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,  # an image that is deleted cannot be pulled again: there is no registry
        "localStorageCapacityIsolation": False,
        "maxPods": 110,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "registryPullQPS": 0,
        "serializeImagePulls": False,
        "shutdownGracePeriod": "0s",
    }
    if not cgroup_v2:
        config["failCgroupV1"] = False
    return json.dumps(config, indent=1)


def node_labels(node: Node) -> str:
    labels = {
        "topology.kubernetes.io/zone": node.zone,
        "topology.kubernetes.io/region": REGION,
        "nvidia.com/gpu.present": "true",
    }
    return ",".join(f"{name}={value}" for name, value in labels.items())


def kube_proxy(node: Node, kubeconfig: Path) -> str:
    """A namespace may not change the kernel's connection-tracking limits: zero and nothing leave them as they are."""
    return json.dumps(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "hostnameOverride": node.name,
            "clusterCIDR": node.lab.pod_cidr,
            "mode": "iptables",
            "oomScoreAdj": 0,
            "iptables": {"minSyncPeriod": "100ms"},
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }
    )


def corefile(address: str, kubeconfig: Path) -> str:
    """No forward: what is not the cluster's has no answer, so that nothing ever asks outside the lab."""
    return f""".:53 {{
    bind {address}
    errors
    ready {address}:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        ttl 5
    }}
    cache 5
    loadbalance
}}
"""
