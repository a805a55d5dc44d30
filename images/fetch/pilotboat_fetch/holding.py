"""`--hold`: nothing is fetched; what an earlier run linked to in the cache is held, so that it stays there.

Owns: a pod that keeps a node's cache warm. Must not know: sources, how files come into the cache.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pilotboat.api.runtime import READY_MARKER, FetchConfig

from . import locks
from .cache import links, told_clearly
from .errors import DownloadFailed, InvalidConfig
from .progress import mib

ENDS = (signal.SIGTERM, signal.SIGINT)


def hold_until_stopped(config: FetchConfig) -> None:
    """Until SIGTERM. The cache is only read."""
    if config.cache is None:
        raise InvalidConfig("--hold needs a cache")
    root = Path(config.cache.path).absolute()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # one that comes now waits until it is waited for
    try:
        with told_clearly(root):
            held = [handle for item in config.items for handle in _held(Path(item.destination), root)]
        size = sum(os.fstat(handle).st_size for handle in held)
        print(f"fetch: holds {len(held)} files, {mib(size)}, until it is stopped", flush=True)
        signal.sigwait(ENDS)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _held(folder: Path, root: Path) -> list[int]:
    if not (folder / READY_MARKER).is_file():
        raise DownloadFailed(f"{folder} is not ready: nothing was fetched into it")
    return [_one(link, root / "blobs" / sha256) for link, sha256 in links(folder, root)]


def _one(link: Path, blob: Path) -> int:
    handle = locks.shared(blob)
    if handle is None:
        raise DownloadFailed(f"{link} leads to {blob.name}, which has gone from the cache: delete the pod")
    return handle
