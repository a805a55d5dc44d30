"""`python3 -m pilotboat_gateway agent` and `... haproxy`: the two containers of the pod.

Owns: arguments, logging, exit codes. Must not know: how either works; each is imported only when asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence

from .settings import Settings

FORMAT = "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(name)s: %(message)s"


def agent(settings: Settings) -> None:
    """Watch routes and endpoints, and drive HAProxy."""
    from .agent import run

    asyncio.run(run(settings))


def haproxy(settings: Settings) -> None:
    """Wait for a configuration, and become HAProxy."""
    from .launch import run

    run(settings)


COMMANDS: dict[str, Callable[[Settings], None]] = {"agent": agent, "haproxy": haproxy}


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point."""
    parser = argparse.ArgumentParser(prog="pilotboat-gateway", description="The data plane of a namespace.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, function in COMMANDS.items():
        commands.add_parser(name, help=function.__doc__, description=function.__doc__)
    chosen = COMMANDS[parser.parse_args(argv).command]
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level="INFO", format=FORMAT, datefmt="%Y-%m-%dT%H:%M:%S", stream=sys.stderr)
    try:
        chosen(Settings.load(os.environ))
    except ValueError as error:
        sys.exit(f"pilotboat-gateway: {error}")
    return 0
