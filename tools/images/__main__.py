"""The command line: `python3 -m tools.images build [NAME...] | push REGISTRY | export | load | refs | list`."""

from __future__ import annotations

import argparse
import json
import sys

from tools import host
from tools.endings import spoken
from tools.images import engines, tree, work
from tools.steps import record_if_asked


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    whole = argparse.ArgumentParser(prog="python3 -m tools.images", description="Pilotboat's container images.")
    commands = whole.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build what is missing").add_argument("names", nargs="*")
    commands.add_parser("export", help="OCI layouts, with uncompressed layers")
    commands.add_parser("load", help="into the lab's nodes")
    commands.add_parser("push", help="to a registry").add_argument("registry", help="such as registry.example.com/team")
    commands.add_parser("refs", help="references by name, as JSON")
    commands.add_parser("list", help="images, references, and whether they are built")
    return whole


def table() -> str:
    """One line an image."""
    tags, found = engines.choose().tags(), tree.images()
    rows = ((name, ref, found[name].ships, ref in tags) for name, ref in tree.refs().items())
    return "\n".join(
        f"{name:10} {ref:45} {'ships' if ships else 'step':6} {'built' if built else '-'}"
        for name, ref, ships, built in rows
    )


def answer(arguments: argparse.Namespace) -> str:
    """Do what was asked; what it returns goes to standard output."""
    match arguments.command:
        case "build":
            built = work.build(arguments.names)
            return f"built: {', '.join(built)}" if built else "images are up to date"
        case "export":
            return "\n".join(str(path) for path in work.export().values())
        case "load":
            sys.path.insert(0, str(host.ROOT / "tests"))
            return "\n".join(work.load().values())
        case "push":
            return "\n".join(work.push(arguments.registry).values())
        case "refs":
            return json.dumps(tree.refs(), indent=1)
        case _:
            return table()


def main() -> int:
    """What was asked for, and its answer."""
    arguments = parser().parse_args()

    def answered() -> int:
        print(answer(arguments))
        return 0

    try:
        return spoken(answered)
    finally:
        record_if_asked()


if __name__ == "__main__":
    sys.exit(main())
