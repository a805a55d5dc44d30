"""Everything that touches kopf, in one file.

Owns: the watches: kopf's handlers, settings and credentials. Must not know: what is done with an event.

Of kopf only `on.event` is used: it writes nothing, keeps nothing on the objects, and tells what is, not what changed.
Handlers return None: kopf would write a returned value into the object's status.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Any

import kopf

from pilotboat.engine.api import Api
from pilotboat.engine.engine import Engine
from pilotboat.engine.kinds import WATCHED, Kind, selector_of


class Endurance:
    """Pauses between tries when the API server fails or refuses, without end: a watch that has to be given up ends
    kopf, and with it those of all other kinds and namespaces. Whether a new process would help is for health to say."""

    def __iter__(self) -> Iterator[float]:
        return chain((0.5, 1, 2, 4, 8), repeat(10, 60), repeat(60))


async def watch(engine: Engine, api: Api, namespaces: Sequence[str], silence: float) -> None:
    """Hand every event of every kind to the engine; ends only by being cancelled, or by an error.

    kopf looks once which kinds there are, so it begins when all could be listed. Its watches begin with lists of their
    own, which tell what came in between.
    """
    await engine.listed.wait()
    registry = kopf.OperatorRegistry()
    _login(registry, api)
    for kind in WATCHED:
        _hand_on(registry, kind, engine)
    where: dict[str, Any] = {"namespaces": list(namespaces)} if namespaces else {"clusterwide": True}
    await kopf.operator(registry=registry, settings=_settings(silence), **where)
    raise RuntimeError("kopf ended by itself")


def quiet() -> None:
    """kopf tells every event at INFO; only what it warns of is of interest."""
    logging.getLogger("kopf").setLevel(logging.WARNING)


def _hand_on(registry: kopf.OperatorRegistry, kind: Kind, engine: Engine) -> None:
    async def see(event: kopf.RawEvent, **_: Any) -> None:
        engine.observe(kind, event["object"], deleted=event["type"] == "DELETED")

    kopf.on.event(kind.group, kind.version, kind.plural, id=f"see-{kind.plural}", registry=registry)(see)


def _login(registry: kopf.OperatorRegistry, api: Api) -> None:
    """The same credentials as our own requests have, so that a rotated token serves both."""

    async def login(**_: Any) -> kopf.ConnectionInfo:
        config = api.configuration
        scheme, _separator, token = (await config.get_api_key_with_prefix("BearerToken") or "").partition(" ")
        return kopf.ConnectionInfo(
            server=config.host,
            ca_path=config.ssl_ca_cert,
            insecure=not config.verify_ssl,
            scheme=scheme.capitalize() or None,
            token=token or None,
            certificate_path=config.cert_file,
            private_key_path=config.key_file,
        )

    kopf.on.login(registry=registry)(login)


def _settings(silence: float) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # we post our own Events, once each
    settings.scanning.disabled = True  # no rights on CRDs and namespaces
    settings.peering.standalone = True  # the Lease decides who acts
    settings.watching.server_timeout = 290
    settings.watching.inactivity_timeout = silence
    settings.watching.chunk_size = 25  # all kinds are listed at once, and every object of a page is in memory whole
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = Endurance()
    settings.queueing.worker_limit = None  # kopf's workers only hand events on
    settings.queueing.idle_timeout = 0.05  # and are a task and an object in memory while they wait
    settings.queueing.exit_timeout = 0.5
    settings.persistence.finalizer = "pilotboat.dev/finalizer"  # never set; the name is ours should it ever be
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    for kind in WATCHED:
        selector = selector_of(kind)
        if selector:
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = selector
    return settings


class _NoDiffBase(kopf.DiffBaseStorage):  # type: ignore[misc]
    """Handlers of events ask for no differences; kopf's own storages copy every object thrice to find them."""

    def build(self, **_: Any) -> dict[str, Any]:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):  # type: ignore[misc]
    """Handlers of events have no progress to keep."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: dict[str, Any]) -> dict[str, Any]:
        return essence
