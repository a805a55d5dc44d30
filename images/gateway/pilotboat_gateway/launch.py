"""The container `haproxy`: waits for a configuration that tells the present truth, then becomes HAProxy.

Owns: the wait. Must not know: what the configuration says.
"""

from __future__ import annotations

import http.client
import os
import time

from .settings import Settings

FRESH = 10.0
"""Seconds to wait for the agent's word that the files are of now. After them those on disk will do: the API server may
be away, and the last known shares are better than none."""
POLL = 0.05


def run(settings: Settings) -> None:
    """Never returns."""
    began = time.monotonic()
    while not settings.config.exists() or not (_synced(settings.agent_port) or time.monotonic() - began > FRESH):
        time.sleep(POLL)
    master = f"{settings.master},mode,600"
    os.execvp("haproxy", ["haproxy", "-W", "-S", master, "-f", str(settings.config)])


def _synced(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/synced")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
