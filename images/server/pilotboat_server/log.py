"""Log lines: one JSON object an event on stderr. No prompts, no answers, no secrets: only what callers pass here."""

from __future__ import annotations

import json
import os
import sys
import time


def event(name: str, **fields: object) -> None:
    """One line. Fields are numbers, short words and messages of our own."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    entry = {"time": stamp, "event": name, "pid": os.getpid(), **fields}
    sys.stderr.write(json.dumps(entry, default=str, ensure_ascii=False) + "\n")
    sys.stderr.flush()
