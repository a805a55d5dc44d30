"""How a program ends: what a person must read is a sentence, and only a fault of ours is a traceback.

Owns: exit statuses, and what a person can do about errors of the machine's. Must not know: what programs do. Standard
library only.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

from tools.steps import StepFailed

NO_ROOM = "free some, or set PILOTBOAT_CACHE to a folder on a larger disk"
NOT_ALLOWED = "run this as root (sudo -E), or set PILOTBOAT_CACHE to a folder that you may write"
NO_FOLDER = "PILOTBOAT_CACHE must name a folder"
WAYS_OUT = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), NO_ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), NOT_ALLOWED),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR), NO_FOLDER),
}
"""What to do, by the error's number. Others are faults of ours."""


def spoken(program: Callable[[], int]) -> int:
    """A program's exit status, with the sentence said where it failed."""
    try:
        return program()
    except (StepFailed, TimeoutError) as failure:
        print(failure, file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in WAYS_OUT:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"{where}{error.strerror}: {WAYS_OUT[error.errno]}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; it can be run again.", file=sys.stderr)
        return 130
