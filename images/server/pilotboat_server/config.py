"""The server's settings: the config file (JSON or YAML), and the few variables that are not for users.

Owns reading and validating them. Must not know: what acts on them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pilotboat.api.runtime import TERMINATION_LOG, ServerConfig

from .errors import InvalidConfig


@dataclass(frozen=True)
class Environment:
    """What comes by environment variable, because it is a secret or belongs to the place and not to the model."""

    api_keys: tuple[str, ...] = ()
    """PILOTBOAT_API_KEYS, one a line; without the variable anyone may call."""
    termination_log: Path = Path(TERMINATION_LOG)
    """PILOTBOAT_TERMINATION_LOG."""
    drain_seconds: float = 80.0
    """PILOTBOAT_DRAIN_SECONDS: how long running requests may finish after SIGTERM; below the pod's grace period."""
    stall_seconds: float = 300.0
    """PILOTBOAT_STALL_SECONDS: /livez fails when running work has shown no sign of life for so long."""
    worker_seconds: float = 60.0
    """PILOTBOAT_WORKER_SECONDS: an HTTP worker that gives no sign of life for so long is replaced."""

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> Environment:
        """Raises InvalidConfig for a number that is none, and for a variable for keys without one: nobody meant that
        anyone may call."""
        given = environ.get("PILOTBOAT_API_KEYS")
        keys = tuple(key.strip() for key in (given or "").splitlines() if key.strip())
        if given is not None and not keys:
            raise InvalidConfig("PILOTBOAT_API_KEYS holds no key: put one on a line, or leave the variable out")
        drain, stall, worker = (
            _seconds(environ, *pair) for pair in (("DRAIN", 80.0), ("STALL", 300.0), ("WORKER", 60.0))
        )
        return cls(keys, termination_log(environ), drain, stall, worker)


def termination_log(environ: Mapping[str, str] = os.environ) -> Path:
    """Known whatever else of the environment is wrong: where that is told."""
    return Path(environ.get("PILOTBOAT_TERMINATION_LOG", TERMINATION_LOG))


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(f"PILOTBOAT_{name}_SECONDS", "")
    try:
        number = float(text) if text else default
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:  # NaN neither: no time would ever be above it
        raise InvalidConfig(f"PILOTBOAT_{name}_SECONDS is {text!r}, not a number of seconds")
    return number


def load(path: Path) -> ServerConfig:
    """The config file. Raises InvalidConfig that names each bad field."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidConfig(f"config file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidConfig(f"config file {path} is not UTF-8 text: {error}") from error
    try:
        config = ServerConfig.model_validate(_parse(path, text))
    except ValidationError as error:
        raise InvalidConfig(f"config file {path}: {_explain(error)}") from error
    return config


def _parse(path: Path, text: str) -> Any:
    """JSON is YAML too, so one parser reads both."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that is none, and nothing but brackets
        raise InvalidConfig(f"config file {path} is neither JSON nor YAML: {error}") from error


def _explain(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, entry['loc'])) or 'file'}: {entry['msg']}" for entry in details)
