"""What the commands that ask a cluster have in common: which cluster and namespace, and every failure as one line.

Owns: --kubeconfig, --context, --namespace, the caller's credentials, what is printed where it fails. Must not know:
what is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import ssl
import sys
from collections.abc import Coroutine
from typing import Any

from kubernetes.aio import client, config
from kubernetes.aio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from .api.base import ObjectName
from .engine.api import IN_CLUSTER, load_configuration, uses_pod_account
from .engine.errors import ApiError, EngineError

UNREADABLE = (config.ConfigException, YAMLError, OSError, ValueError, TypeError, LookupError, AttributeError)
"""What the library throws at a kubeconfig: its own, and what comes of a file that is none."""


class Refused(Exception):
    """What was asked cannot be; the message says why, or what can."""


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a cluster."""
    parser.add_argument("--kubeconfig", type=given, help="left out: the pod's account, or kubectl's default")
    parser.add_argument("--context", type=given, help="of the kubeconfig; left out: its current one")


def add_deployment(parser: argparse.ArgumentParser) -> None:
    """Those that name a ModelDeployment."""
    parser.add_argument("name", type=_name, help="name of the ModelDeployment")
    parser.add_argument("-n", "--namespace", type=_name, help="left out: the context's, or the pod's own")
    add(parser)


def given(text: str) -> str:
    """An argument with something in it: a variable that is not set must not choose another cluster or revision."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty: leave it out, or say which")
    return text


def _name(text: str) -> str:
    """Of an object. What is none would be another path: that of all ModelDeployments, or of none."""
    try:
        return TypeAdapter(ObjectName).validate_python(given(text))
    except ValidationError:
        raise argparse.ArgumentTypeError(f"{text!r} is no name: small letters, digits, - and .") from None


def printable(text: str) -> str:
    """Not all that is told was written by us: no terminal is to obey it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def run(asked: Coroutine[Any, Any, int], failed: int = 1, *known: type[Exception]) -> int:
    """The exit code: what comes of it, or `failed`. `known` are errors whose words are for the user, besides ours."""
    expected: tuple[type[Exception], ...] = (EngineError, Refused, ssl.SSLError, *known)
    logging.getLogger("kubernetes").setLevel(logging.ERROR)  # it warns of what it then throws
    try:
        return asyncio.run(asked)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return complain(Refused("stopped"), failed)
    except expected as error:
        return complain(error, failed)


def complain(error: BaseException, code: int) -> int:
    """Say what is wrong; the exit code."""
    with contextlib.suppress(OSError):  # the terminal may be closed
        told = error.message if isinstance(error, ApiError) else error
        print(f"pilotboat: {told}", file=sys.stderr, flush=True)
    return code


async def credentials(arguments: argparse.Namespace) -> client.Configuration:
    """Of the cluster named. Raises Refused."""
    try:
        loaded = await load_configuration(arguments.kubeconfig, arguments.context)
        token = await loaded.get_api_key_with_prefix("BearerToken") or ""
    except UNREADABLE as error:
        raise Refused(
            f"--kubeconfig, --context: no cluster can be reached with these: {_why(error, arguments)}"
        ) from None
    if not token.isprintable():
        raise Refused("--kubeconfig: its token holds what no header can, such as the end of a line")
    if token.startswith("Basic ") and not loaded.cert_file:  # it would be anonymous; a certificate beside it counts
        raise Refused(
            "--kubeconfig: its user has a username and password, which Kubernetes has not taken since 1.19: "
            "use a token, a client certificate or an exec plugin"
        )
    return loaded


def namespace(arguments: argparse.Namespace) -> str:
    """The one named, else the context's, as kubectl has it. After `credentials`, which says what is wrong with it."""
    if arguments.namespace:
        return str(arguments.namespace)
    if uses_pod_account(arguments.kubeconfig, arguments.context):
        return IN_CLUSTER.with_name("namespace").read_text("utf-8").strip()
    contexts, current = config.list_kube_config_contexts(arguments.kubeconfig)
    if arguments.context:
        current = next(each for each in contexts if each["name"] == arguments.context)
    return str(current["context"].get("namespace") or "default")


def _why(error: Exception, arguments: argparse.Namespace) -> str:
    named = arguments.kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION
    if not any(os.path.exists(os.path.expanduser(each)) for each in named.split(os.pathsep)):
        return f"there is no file {named}"
    if isinstance(error, config.ConfigException | OSError):
        return str(error)
    return f"{named} is not a kubeconfig"
