"""The lab's commands: `PYTHONPATH=tests python3 -m lab up`. LAB names a lab other than the default one."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from lab import bench, build, cluster, faults, images, machine, plane
from lab.layout import Lab, cache, current, number
from tools.endings import spoken
from tools.steps import StepFailed, record_if_asked, step

Arguments = argparse.Namespace


def up(arguments: Arguments) -> None:
    lab = current()
    cluster.up(lab, arguments.gpus)
    print(f"The lab {lab.name} is up: three nodes in three zones. Use it with `export KUBECONFIG={lab.kubeconfig}`.")


def gpus() -> int:
    """LAB_GPUS, which may be 0."""
    found = number("LAB_GPUS", least=0)
    return cluster.GPUS if found is None else int(found)


def down(arguments: Arguments) -> None:
    machine.check_place()
    cluster.down(current())
    print(f"Nothing of the lab runs any more. Programs and images stay cached; remove them with `rm -rf {cache()}`.")


def kubeconfig(arguments: Arguments) -> None:
    print(cluster.kubeconfig(current()).read_text(), end="")


def status(arguments: Arguments) -> None:
    lab = current()
    for name, runs in cluster.programs(lab).items():
        print(f"{'runs' if runs else 'ENDED':6} {name}")
    if not cluster.is_up(lab):
        raise StepFailed(f"The lab {lab.name} is not up: `{cluster.command(lab, 'lab')}` starts it, or mends it.")


def load(arguments: Arguments) -> None:
    pairs = [pair.rpartition("=") for pair in arguments.images]
    if any(not name for name, _, _ in pairs):
        raise StepFailed("Name each image as NAME=PATH, such as localhost/server:dev=build/server.")
    images.load({name: Path(path).absolute() for name, _, path in pairs})


def forget_images(arguments: Arguments) -> None:
    images.forget()


def run_inside(arguments: Arguments) -> None:
    """Becomes a command in the control plane's namespace or a node's: from there pods can be reached."""
    lab = current()
    netns = lab.node(arguments.node).netns if arguments.node else lab.netns
    command = ["nsenter", f"--net=/run/netns/{netns}", *arguments.command]
    os.execvp(command[0], command)


def cut(arguments: Arguments) -> None:
    for node in faults.named(current(), arguments.target):
        faults.cut_one_way(node, faults.Way(arguments.way)) if arguments.way else faults.cut(node)


def heal(arguments: Arguments) -> None:
    for node in faults.named(current(), arguments.target):
        faults.mend(node)


def slow(arguments: Arguments) -> None:
    for node in faults.named(current(), arguments.target):
        faults.slow(node, arguments.rate)


def lose(arguments: Arguments) -> None:
    if not 0 < arguments.percent <= 100:
        raise StepFailed(f"{arguments.percent:g} is no share of packets: give a percentage above 0, up to 100.")
    for node in faults.named(current(), arguments.target):
        faults.lose(node, arguments.percent)


AGENTS = {
    "kubelet": (faults.stop_kubelet, faults.start_kubelet),
    "containerd": (faults.stop_containerd, faults.start_containerd),
}
CONTROL = "control"
"""In a zone's place: the control plane."""


def stop_program(arguments: Arguments) -> None:
    end_or_begin(arguments, 0, faults.stop_central)


def start_program(arguments: Arguments) -> None:
    end_or_begin(arguments, 1, faults.start_central)


def end_or_begin(arguments: Arguments, at: int, central: Callable[[Lab, str], None]) -> None:
    belongs = plane.WHOLE if arguments.target == CONTROL else tuple(AGENTS)
    if arguments.program not in belongs:
        raise StepFailed(f"{arguments.target} has {', '.join(belongs)} to stop and start, no {arguments.program}.")
    if arguments.target == CONTROL:
        central(current(), arguments.program)
        return
    for node in faults.named(current(), arguments.target):
        AGENTS[arguments.program][at](node)


def pause(arguments: Arguments) -> None:
    faults.pause(current(), arguments.program)


def resume(arguments: Arguments) -> None:
    faults.resume(current(), arguments.program)


def bench_plane(arguments: Arguments) -> None:
    if arguments.action == "down":
        bench.down(arguments.name)
        return
    with step(f"Starting a control plane with {arguments.nodes} simulated nodes", usual="15 s"):
        path = bench.up(arguments.name, arguments.nodes)
    print(path)


def api_plane(arguments: Arguments) -> None:
    if arguments.action == "down":
        plane.stop(arguments.name)
        return
    with step("Starting a control plane without nodes", usual="5 s"):
        path = plane.start(arguments.name)
    print(path)


def programs(arguments: Arguments) -> None:
    print(build.ensure())


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python3 -m lab", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, action: Callable[[Arguments], None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text)
        command.set_defaults(action_of=action)
        return command

    add("up", up, "start the lab, or leave it alone where it runs").add_argument(
        "--gpus", type=int, default=gpus(), help="simulated GPUs a node"
    )
    add("down", down, "end it and leave nothing behind but caches")
    add("kubeconfig", kubeconfig, "print a kubeconfig that works from the plain shell")
    add("status", status, "say what runs; fails where not all does")
    add("programs", programs, "build what is missing and print the programs' folder (kubectl, helm, ...)")
    add("load", load, "load images").add_argument("images", nargs="+", metavar="NAME=OCI_LAYOUT_OR_ARCHIVE")
    add("forget-images", forget_images, "empty the cache of images, which only ever grows")
    add_faults(add)
    inside = add("exec", run_inside, "run a command inside the lab's network")
    inside.add_argument("--node", help="in this node's namespace, rather than the control plane's")
    inside.add_argument("command", nargs=argparse.REMAINDER)
    for name, action, text in (
        ("plane", api_plane, "a control plane without nodes"),
        ("bench-plane", bench_plane, "a control plane with kwok's simulated nodes"),
    ):
        command = add(name, action, text)
        command.add_argument("action", choices=("up", "down"))
        command.add_argument("--name", default=name.removesuffix("-plane"))
        if action is bench_plane:
            command.add_argument("--nodes", type=int, default=bench.NODES)
    return top


def add_faults(add: Callable[[str, Callable[[Arguments], None], str], argparse.ArgumentParser]) -> None:
    """The verbs that disturb a zone or a node, and those that undo them."""
    where = "a zone such as zone-2, or a node such as n2"
    verbs = [
        add("cut", cut, "cut a zone or a node off the network"),
        add("heal", heal, "undo whatever was done to its links"),
        add("slow", slow, "give its links a rate such as 1mbit"),
        add("lose", lose, "lose so many of a hundred packets"),
        add("stop", stop_program, "kill its kubelet or containerd, or a program of the control plane"),
        add("start", start_program, "start that again"),
    ]
    for verb in verbs:
        verb.add_argument("target", help=f"{where}; stop, start: or {CONTROL}", metavar="ZONE")
    verbs[0].add_argument("--way", choices=[str(way) for way in faults.Way], help="one way only, seen from the node")
    verbs[2].add_argument("rate", metavar="RATE")
    verbs[3].add_argument("percent", type=float, metavar="PERCENT")
    for verb in verbs[4:]:
        verb.add_argument("program", choices=sorted((*AGENTS, *plane.WHOLE)), metavar="PROGRAM")
    for name, action, text in (
        ("pause", pause, "let a program of the control plane stand still, such as etcd"),
        ("resume", resume, "let it go on"),
    ):
        add(name, action, text).add_argument("program", choices=plane.WHOLE, metavar="PROGRAM")


def main() -> int:
    def asked() -> int:
        arguments = parser().parse_args()
        arguments.action_of(arguments)
        return 0

    try:
        return spoken(asked)
    finally:
        record_if_asked()


if __name__ == "__main__":
    sys.exit(main())
