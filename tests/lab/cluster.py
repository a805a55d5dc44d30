"""The three-zone cluster as a whole: up, down, and what its state is. Each part's own module knows how."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import addons, build, cgroups, forward, images, layout, machine, net, nodes, origin, plane, procs
from lab.kube import Client, Object
from lab.layout import DEFAULT, Lab, Node, cache
from lab.outside import Outside
from lab.plane import Plane
from tools.steps import StepFailed, step

GPUS = 2
# kubelet sets these for the whole machine, and a lab leaves a machine as it found it.
SYSCTLS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
NODE_PROGRAMS = ("containerd", "kube-proxy", "kubelet")
CENTRAL_PROGRAMS = (*plane.WHOLE, "coredns", "forward", "keeper")


@contextlib.contextmanager
def locked(lab: Lab) -> Iterator[None]:
    """One `up` or `down` at a time."""
    lab.lock.parent.mkdir(parents=True, exist_ok=True)
    with lab.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def programs(lab: Lab) -> dict[str, bool]:
    """Every process of the lab, and whether it runs."""
    found = {name: central(lab).running(name) for name in CENTRAL_PROGRAMS}
    for node in lab.nodes:
        found |= {f"{node.name}/{name}": nodes.processes(node).running(name) for name in NODE_PROGRAMS}
    return found


def central(lab: Lab) -> procs.Processes:
    return procs.Processes(lab.dir / "processes")


def is_up(lab: Lab) -> bool:
    return lab.kubeconfig.exists() and all(programs(lab).values()) and Client.load(lab.kubeconfig).ready()


def is_outdated(lab: Lab) -> bool:
    """Whether it runs, and was started from something else than what is here."""
    return is_up(lab) and origin.of(lab) != origin.here()


def check(lab: Lab) -> None:
    """StepFailed where it cannot be, or is outdated: only who put something into it knows whether that may go."""
    layout.check(lab)
    check_elsewhere(lab)
    if is_outdated(lab):
        raise StepFailed(
            f"The lab {lab.name} runs and was started from another version ({origin.of(lab) or 'an older one'}; here "
            f"is {origin.here()}): nothing was done; `{command(lab, 'lab-down')}` ends it with all that is in it, and "
            "then this can be run again."
        )


def check_elsewhere(lab: Lab) -> None:
    """StepFailed where one of the same name runs from another cache: network namespaces and control groups go by the
    lab's name alone, so that they are found when its folder is gone, and to end ours would end those of the other."""
    if folder := procs.working_in(f"lab/{lab.name}", besides=lab.dir):
        raise StepFailed(
            f"A lab {lab.name} runs from another cache, in {folder}: nothing was done; `PILOTBOAT_CACHE="
            f"{folder.parents[1]} {command(lab, 'lab-down')}` ends it, and LAB=name takes another name."
        )


def command(lab: Lab, target: str) -> str:
    """The command for a target that means this lab."""
    return f"{'' if lab.name == DEFAULT else f'LAB={lab.name} '}make {target}"


def kubeconfig(lab: Lab) -> Path:
    if not lab.kubeconfig.exists() or not central(lab).running("kube-apiserver"):
        raise StepFailed(f"The lab {lab.name} is not running: start it with `{command(lab, 'lab')}`.")
    return lab.kubeconfig


def up(lab: Lab, gpus: int = GPUS) -> None:
    """Idempotent: a lab that runs whole is left alone; one that does not is cleared away and started anew.

    StepFailed where one runs whole that was started from another version."""
    check(lab)  # before programs are built for minutes
    machine.prepare()
    build.ensure()
    with locked(lab):
        check(lab)
        if is_up(lab):
            return
        port = remembered_port(lab)
        if lab.dir.exists():
            with step("Clearing away what is left of an earlier lab"):
                clear(lab)
        try:
            start(lab, port, gpus)
        except BaseException:
            keep_logs(lab)
            clear(lab)
            raise


def start(lab: Lab, port: int, gpus: int) -> None:
    with step("Preparing the lab's own images", usual="3 s", log=images.template().log):
        images.prepare()
    control = plane.in_namespace(lab)
    with step("Starting the control plane", usual="6 s"):
        lab.volumes.mkdir(parents=True)
        origin.record(lab)
        save_sysctls(lab)
        net.create(lab)
        plane.make_pki(control)
        plane.launch_all(control, plane.API)
        client = Client.load(publish(control, port))
        with ThreadPoolExecutor(max_workers=len(lab.nodes)) as pool:
            prepared = pool.map(lambda node: prepare_node(control, node.number), lab.nodes)
            plane.wait_ready(control, lab.dir / "admin.kubeconfig")
            plane.launch_all(control, plane.CONTROLLERS)
            list(prepared)
    with step("Starting three nodes in three zones", usual="8 s"):
        addons.apply(client, control.at.address)
        addons.start_dns(control)
        start_keeper(control, gpus)
        images.on_all(list(lab.nodes), start_agents)
        procs.wait_until(lambda: settled(client, lab, gpus), what="The nodes' readiness", timeout=120)
    (lab.dir / "admin.kubeconfig").rename(lab.kubeconfig)


def prepare_node(control: Plane, number: int) -> None:
    node = control.lab.nodes[number - 1]
    nodes.prepare(node, control)
    images.give_all(node)
    nodes.start_containerd(node)


def start_agents(node: Node) -> None:
    nodes.start_kubelet(node)
    nodes.start_proxy(node)


def publish(control: Plane, port: int) -> Path:
    """Starts the forwarder, and writes the kubeconfig that works outside every namespace."""
    lab = control.lab
    try:
        listener = forward.listen(port)
    except OSError:
        listener = forward.listen(0)  # somebody else has taken the port since
    with listener:
        own = listener.getsockname()[1]
        target = [str(listener.fileno()), "127.0.0.1", str(control.at.apiserver)]
        command = [sys.executable, "-m", "lab.forward", *target]
        log = lab.logs / "forward.log"
        fds = (listener.fileno(),)
        control.processes.spawn("forward", command, log=log, netns=control.netns, env=python_path(), pass_fds=fds)
    (lab.dir / "port").write_text(str(own))
    server = f"https://127.0.0.1:{own}"
    return control.pki.kubeconfig(lab.dir / "admin.kubeconfig", user="admin", server=server, context=context(lab))


def context(lab: Lab) -> str:
    return f"lab-{lab.name}"


def python_path() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def start_keeper(control: Plane, gpus: int) -> None:
    lab = control.lab
    command = [sys.executable, "-m", "lab.keeper", str(control.conf("admin")), str(lab.volumes), str(gpus)]
    log = lab.logs / "keeper.log"
    control.processes.spawn("keeper", command, log=log, netns=control.netns, env=python_path())


def settled(client: Client, lab: Lab, gpus: int) -> bool:
    """Every node Ready with its GPUs, and pods may be made: the default service account is there."""
    if ended := [name for name, runs in programs(lab).items() if not runs]:
        raise StepFailed(f"{', '.join(ended)} ended while starting: see the logs.")
    found = client.get("/api/v1/nodes")["items"]
    accounts = client.get("/api/v1/namespaces/default/serviceaccounts")["items"]
    return len(found) == len(lab.nodes) and bool(accounts) and all(node_settled(node, gpus) for node in found)


def node_settled(node: Object, gpus: int) -> bool:
    status = node["status"]
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", []))
    return ready and status.get("allocatable", {}).get("nvidia.com/gpu") == str(gpus)


def remembered_port(lab: Lab) -> int:
    try:
        return int((lab.dir / "port").read_text())
    except (OSError, ValueError):
        return 0


def save_sysctls(lab: Lab) -> None:
    """As they were before the first of the labs that run: its kubelets have changed them."""
    saved = lab.dir / "sysctls.json"
    values = {name: Path("/proc/sys", name).read_text().strip() for name in SYSCTLS}
    others = (path.read_text() for path in saved.parent.parent.glob("*/sysctls.json") if path != saved)
    saved.write_text(next(others, json.dumps(values)))


def restore_sysctls(lab: Lab) -> None:
    saved = lab.dir / "sysctls.json"
    others = [path for path in saved.parent.parent.glob("*/sysctls.json") if path != saved]
    if others or not saved.exists():  # another lab's kubelets still want them; its own end restores what it found
        return
    for name, value in json.loads(saved.read_text()).items():
        with contextlib.suppress(OSError):
            Path("/proc/sys", name).write_text(value)


def down(lab: Lab) -> None:
    """Ends every process, and removes every mount, namespace, control group and file of the lab, caches excepted."""
    check_elsewhere(lab)
    with locked(lab), step(f"Taking the lab {lab.name} down", usual="5 s"):
        clear(lab)
    lab.lock.unlink(missing_ok=True)


def clear(lab: Lab) -> None:
    """Works from whatever state there is: nothing here needs what an earlier line should have left."""
    central(lab).stop(*central(lab).names(), grace=0)
    for node in lab.nodes:
        nodes.processes(node).stop(*nodes.processes(node).names(), grace=0)
    for node in lab.nodes:
        nodes.end_containers(node)
    nodes.unmount(lab.dir)
    net.remove(lab)
    Outside(lab.name).remove()
    for node in lab.nodes:
        cgroups.remove(node.cgroup)
    remove_log_links(lab)
    remove_network_results(lab)
    restore_sysctls(lab)
    shutil.rmtree(lab.dir, ignore_errors=True)
    if lab.dir.exists():
        raise StepFailed(f"{lab.dir} cannot be removed whole: look for what still uses it with `fuser -vm {lab.dir}`.")


def remove_log_links(lab: Lab) -> None:
    """kubelet links every container's log into a folder of the machine's, and its path cannot be set."""
    folder = Path("/var/log/containers")
    for link in folder.glob("*.log") if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # another lab's kubelet works here as well
            if link.is_symlink() and os.readlink(link).startswith(f"{lab.dir}/"):
                link.unlink()


def remove_network_results(lab: Lab, folder: Path = Path("/var/lib/cni/results")) -> None:
    """What plug-ins made for each pod is kept in a folder whose path cannot be set, until a runtime says that the pod
    is over; ours are ended before they can. Another lab's pods have other folders of addresses."""
    for path in folder.glob("lab-*") if folder.is_dir() else ():
        with contextlib.suppress(OSError, ValueError, KeyError):  # one of another lab's, gone or half written
            kept = json.loads(path.read_text())
            if f"{lab.dir}/".encode() in base64.b64decode(kept["config"]):
                for result in folder.glob(f"*-{kept['containerId']}-*"):
                    result.unlink(missing_ok=True)


def keep_logs(lab: Lab) -> None:
    """What a failed start logged, for whoever looks into it; the next failure replaces it."""
    kept = cache() / "logs" / f"lab-{lab.name}-failed"
    shutil.rmtree(kept, ignore_errors=True)
    if lab.logs.exists():
        shutil.copytree(lab.logs, kept)
        print(f"The logs of the failed start are in {kept}", file=sys.stderr)
