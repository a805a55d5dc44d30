"""`pilotboat-server --config FILE`: reads the config, runs the server, says in the termination message why it ended.

Owns exit codes: 0 drained, 64 the input is wrong and a restart cannot help, 1 anything else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from pilotboat.api.reasons import Reason
from pilotboat.api.runtime import EXIT_BAD_INPUT, TerminationReport

from . import config, log
from .config import Environment
from .errors import CannotListen, StartupError
from .process import Server
from .worker import loop_factory

SPINS = "1000"


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(prog="pilotboat-server", description="OpenAI-compatible inference server.")
    parser.add_argument("--config", type=Path, required=True, help="server.json, or a YAML file of the same shape")
    path = parser.parse_args(argv).config
    share_cores()
    environment = Environment(termination_log=config.termination_log())
    try:
        environment = Environment.read()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            quiet = runner.run(Server(config.load(path), environment, began).run())
    except StartupError as error:
        return _end(environment, EXIT_BAD_INPUT, error.reason, str(error))
    except CannotListen as error:
        return _end(environment, 1, Reason.CONTAINER_FAILED, str(error))
    except Exception as error:  # the last stop: whatever it is, the termination message has to say it
        traceback.print_exc()
        return _end(environment, 1, Reason.CONTAINER_FAILED, f"{type(error).__name__}: {error}")
    log.event("stopped")
    if not quiet:  # a library loads or computes on in a thread, and no interpreter can end it in good order
        os._exit(0)
    return 0


def share_cores() -> None:
    """Let compute threads sleep soon while they wait for one another. libgomp reads this when an engine loads it.

    By default it spins, and where other processes want the same cores the spinning thread keeps the one that it waits
    for from running: on two busy cores 2 threads of llama.cpp made below 1 token/s so, and 10 with this.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def _end(environment: Environment, code: int, reason: Reason, message: str) -> int:
    """The termination message; outside Kubernetes there is no such file, and the log line has to do."""
    log.event("failed", reason=reason.value, message=message, exit_code=code)
    if environment.termination_log.parent.is_dir() and os.access(environment.termination_log, os.W_OK):
        environment.termination_log.write_text(TerminationReport(reason=reason, message=message).to_message())
    return code


if __name__ == "__main__":
    sys.exit(main())
