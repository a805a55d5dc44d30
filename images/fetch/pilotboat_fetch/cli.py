"""`pilotboat-fetch --config fetch.json`: all items, one report, one exit code; with `--hold`, none of them.

Owns: arguments, the environment, signals, the end. Must not know: how anything is fetched.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

import httpx
from pydantic import ValidationError

from pilotboat.api.reasons import Reason
from pilotboat.api.runtime import CONFIG_DIR, FetchConfig, FetchedItem, FetchItem, FetchResult, TerminationReport

from . import report
from .cache import Cache
from .cached import CachedSource, opened
from .download import TIMEOUT, Downloader
from .errors import FetchError, HubAuthFailed, Interrupted, InvalidConfig
from .eviction import make_room
from .files import Source
from .holding import hold_until_stopped
from .item import fetch_item
from .progress import Progress
from .retry import Backoff


def main(argv: Sequence[str] | None = None, backoff: Backoff | None = None) -> int:
    """Fetch, report, and return the exit code."""
    arguments = argparse.ArgumentParser(prog="pilotboat-fetch", description=__doc__)
    arguments.add_argument("--config", type=Path, default=Path(CONFIG_DIR / "fetch.json"))
    arguments.add_argument("--hold", action="store_true", help="fetch nothing, and keep in the cache what was fetched")
    arguments.add_argument("--only-cached", action="store_true", help="leave out what no cache keeps: local sources")
    options = arguments.parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupted)
    _choose_authorities()
    try:
        config = _load(options.config)
        if options.hold or options.only_cached:
            config = _of_the_cache(config)
        if options.hold:
            hold_until_stopped(config)
            return 0
        result = fetch_all(config, os.environ, backoff or Backoff())
    except (FetchError, Interrupted) as error:
        return _failed(error.reason, str(error), error.exit_code)
    except Exception as error:  # whatever else: a report with a cause is worth more than a bare traceback
        traceback.print_exc()
        return _failed(Reason.DOWNLOAD_FAILED, f"{type(error).__name__}: {error}", 1)
    report.write(report.fetched(result))
    return 0


def fetch_all(config: FetchConfig, environ: Mapping[str, str], backoff: Backoff) -> FetchResult:
    """Every item, in order, with the token its variable holds; the first failure ends it and names the item."""
    done: dict[str, FetchedItem] = {}
    with opened(config) as cache, _client() as client:
        for item in config.items:
            progress = Progress(item.name)
            retries = replace(backoff, patience=config.patience or 0.0, say=progress.say)
            try:
                downloader = Downloader(client, retries, progress, _room(cache))
                source = _source(item, config, _token(item, environ), downloader, retries, progress)
                if cache and not item.local:
                    source = CachedSource(source, cache, progress)
                done[item.name] = fetch_item(item, source, progress)
            except FetchError as error:
                error.args = (f"{item.name}: {error}",)
                raise
    return FetchResult(items=done)


def _client() -> httpx.Client:
    """Proxies and authorities come from the environment; .netrc must not add credentials that nobody asked for."""
    try:
        return httpx.Client(follow_redirects=True, timeout=TIMEOUT, auth=_no_auth)
    except (httpx.InvalidURL, ValueError, ImportError):  # whose words may have a part of a password
        raise InvalidConfig(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is no http(s) address of a proxy; in a password write / as %2F, "
            "? as %3F, # as %23 and @ as %40"
        ) from None


def _token(item: FetchItem, environ: Mapping[str, str]) -> str | None:
    """The item's token, without the line break that a file has at its end."""
    token = environ.get(item.token_env, "").strip()
    if not re.fullmatch(r"[!-~]*", token):  # else whoever sends it would say what is wrong with it, and show it
        raise HubAuthFailed(f"the token in {item.token_env} has blanks, line breaks or letters that no token has")
    return token or None


def _room(cache: Cache | None) -> Callable[[Path, int], None] | None:
    return (lambda path, size: make_room(cache, size, path)) if cache else None


def _source(
    item: FetchItem,
    config: FetchConfig,
    token: str | None,
    downloader: Downloader,
    backoff: Backoff,
    progress: Progress,
) -> Source:
    # Each kind is imported where it is used: the hub's library takes longer to load than a ConfigMap to copy.
    match item:
        case FetchItem(hugging_face=spec, http=None, local=None) if spec:
            from .hub import HubSource

            return HubSource(spec, item.repo_type, config.hub_endpoint, token, downloader, backoff)
        case FetchItem(hugging_face=None, http=address, local=None) if address:
            from .http import HttpSource

            return HttpSource(address, item.repo_type, downloader)
        case FetchItem(hugging_face=None, http=None, local=place) if place:
            from .local import LocalSource

            return LocalSource(place, item.repo_type, item.copy_files, progress)
    raise InvalidConfig("give exactly one of huggingFace, http and local")


def _of_the_cache(config: FetchConfig) -> FetchConfig:
    """What a node can have before a replica is there: a claim may be another node's just then."""
    kept = [item for item in config.items if item.local is None]
    if not kept:
        raise InvalidConfig("nothing of this comes over a network, so that no cache keeps it")
    return config.model_copy(update={"items": kept})


def _load(path: Path) -> FetchConfig:
    try:
        return FetchConfig.load(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidConfig(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise InvalidConfig(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _failed(reason: Reason, message: str, exit_code: int) -> int:
    print(f"fetch: {reason}: {message}", file=sys.stderr, flush=True)
    report.write(TerminationReport(reason=reason, message=message))
    return exit_code


def _choose_authorities() -> None:
    """SSL_CERT_FILE is meant for the main container as well, and this image need not have the file that is in that."""
    named = os.environ.get("SSL_CERT_FILE")
    if named and not Path(named).is_file():
        print(f"fetch: SSL_CERT_FILE names {named}, which is not in this image, and is ignored", flush=True)
        del os.environ["SSL_CERT_FILE"]


def _no_auth(request: httpx.Request) -> httpx.Request:
    return request


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise Interrupted("stopped by SIGTERM")
