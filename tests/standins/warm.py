"""What a trainer imports, in the process that trainers of tests are forked from (training.py)."""

from pilotboat_trainer import cli

cli.environment(cli.cpu_threads(None))
from pilotboat_trainer import train  # noqa: E402 -- as the program does: it reads the environment once

__all__ = ["train"]
