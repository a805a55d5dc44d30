"""The command line: `pilotboat operator`, `rollout`, `ab`, `rehearse`, `crds`, `version`.

Owns: arguments, logging, exit codes. Must not know: how an operator works; it is imported only when asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

from pilotboat import ab_cli, rehearse_cli, rollout_cli

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"


def operator() -> int:
    """Run the operator until a signal; settings come from the environment (pilotboat.settings)."""
    from pilotboat import replica, wiring
    from pilotboat.settings import BadSetting, Settings

    try:
        settings = Settings.load()
        _log(settings.log_level)
    except (BadSetting, ValueError) as error:
        sys.exit(f"pilotboat: {error}")
    wiring.quiet()
    return asyncio.run(replica.run(settings))


def crds() -> int:
    """Print the CustomResourceDefinitions, ready for `kubectl apply -f -`."""
    from pilotboat.api import crd

    sys.stdout.write("---\n".join(crd.render(kind) for kind in crd.KINDS))
    return 0


def show_version() -> int:
    """Print the version."""
    try:
        print(version("pilotboat"))
    except PackageNotFoundError:
        print("0 (run from source)")
    return 0


COMMANDS: dict[str, Callable[[], int]] = {"operator": operator, "crds": crds, "version": show_version}


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point."""
    parser = argparse.ArgumentParser(prog="pilotboat", description="A Kubernetes operator for language models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    rollout_cli.add(commands)
    ab_cli.add(commands)
    rehearse_cli.add(commands)
    arguments = parser.parse_args(argv)
    steering = {"rollout": rollout_cli.run, "ab": ab_cli.run, "rehearse": rehearse_cli.run}
    if arguments.command in steering:
        return steering[arguments.command](arguments)
    return COMMANDS[arguments.command]()


def _log(level: str) -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=level, format=FORMAT, datefmt="%Y-%m-%dT%H:%M:%S", stream=sys.stderr)
