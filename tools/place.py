"""Where the demo and the end-to-end tests run: the lab, or a cluster of the user's own; with our images in reach.

Owns: bringing programs, images and model together before a cluster is used. Must not know: what is done in it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tools import host, kube, model, venv
from tools.host import ROOT, cache
from tools.images import disk, engines, work
from tools.kube import Cluster
from tools.steps import StepFailed

sys.path.insert(0, str(ROOT / "tests"))

from lab import build, cluster, machine, origin
from lab.layout import Lab, current

SMALLEST = "fetch"
"""The image that is built and pushed soonest."""


def check_machine() -> None:
    """StepFailed, with one sentence, where the lab cannot be or where its images have no room; changes nothing."""
    machine.check(max(machine.NEEDED_GIB, disk.wanted(lab=True)))


def check_place() -> None:
    """StepFailed where a lab can be neither made nor ended, whatever else there is."""
    machine.check_place()


def prepare_lab() -> None:
    """Everything the lab needs, made side by side; a machine that cannot do is told so before anything is changed."""
    cluster.check(current())
    check_machine()
    machine.prepare()
    venv.update()
    in_parallel(build.ensure, work.export, model.safetensors)


def the_lab(namespace: str, lab: Lab | None = None) -> tuple[Cluster, dict[str, str]]:
    """The lab, up, with the images of this tree in every node; and the images' references."""
    lab = lab or current()
    refs = work.load(lab)  # before the nodes are there: then they get the images for nothing
    cluster.up(lab)
    return reached(lab, namespace), refs


@contextmanager
def own_lab(name: str) -> Iterator[None]:
    """The lab of the block is one of this name, and what a demo or a user has in another stays as it is.

    It is ended with the block; KEEP_LAB keeps it. Where LAB names a lab, that is taken, and stays if it ran before.
    Raises StepFailed where another run has it."""
    chosen = os.environ.get("LAB")
    os.environ["LAB"] = chosen or name
    with host.alone(f"run-{current().name}") as free:
        if not free:
            raise StepFailed(f"Another run has the lab {current().name}: wait for its end, or take one by LAB=name.")
        stays = bool(chosen and cluster.is_up(current()))
        if not chosen and cluster.is_outdated(current()):
            end_lab()
        try:
            yield
        finally:
            if not (stays or os.environ.get("KEEP_LAB")) and current().dir.exists():
                end_lab()


def command(target: str) -> str:
    """The command for a target that means the lab chosen."""
    return cluster.command(current(), target)


def end_lab() -> None:
    """The lab, down."""
    cluster.down(current())


def there(context: str | None, namespace: str) -> Cluster | None:
    """The cluster as it is now, the user's own or the lab; None where no lab runs. Changes nothing."""
    if context:
        return named(context, namespace)
    lab = current()
    if not lab.kubeconfig.exists() or not cluster.central(lab).running("kube-apiserver"):
        return None
    return reached(lab, namespace)


def reached(lab: Lab, namespace: str) -> Cluster:
    """A lab that runs, by the programs that it was started from."""
    programs = origin.programs(lab)
    kubectl, helm = str(programs / "kubectl"), str(programs / "helm")
    return Cluster(kubectl, helm, cluster.kubeconfig(lab), namespace=namespace)


def named(context: str, namespace: str) -> Cluster:
    """The user's own cluster, by the programs on the PATH."""
    missing = [name for name in ("kubectl", "helm") if shutil.which(name) is None]
    if missing:
        raise StepFailed(f"{' and '.join(missing)} must be on the PATH to use your own cluster")
    for problem in (*kube.too_old(), *kube.unknown(context)):
        raise StepFailed(problem)
    return Cluster("kubectl", "helm", context=context, namespace=namespace)


def own(context: str, namespace: str) -> tuple[Cluster, dict[str, str]]:
    """The user's cluster, with our images pushed to REGISTRY, from where it pulls; nothing of the lab is touched."""
    registry = os.environ.get("REGISTRY")
    if not registry:
        raise StepFailed(
            "REGISTRY names no registry, and your cluster must pull the images from one: none are published"
        )
    found = named(context, namespace)
    if engines.takes_buildah():  # others keep what they build elsewhere
        for problem in machine.want_of_disk(machine.free_gib(cache()), disk.wanted(lab=False)):
            raise StepFailed(problem)
    first = work.push(registry, only=[SMALLEST])  # what the registry refuses is told before PyTorch is built
    venv.update()
    in_parallel(work.build, model.safetensors)
    return found, first | work.push(registry, but=first)


def in_parallel(*tasks: Callable[[], object]) -> None:
    """Go builds want cores, images the network, the model some of both: together they take the longest one's time."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()
