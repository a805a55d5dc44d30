"""Every way a training can end without a result: each has its reason for the report and its exit code.

    TrainerError
    ├── BadInput                    exit 64: a retry cannot help
    │   ├── InvalidConfig           InvalidSpec
    │   ├── InvalidDataset          InvalidDataset
    │   ├── InvalidModel            InvalidModel
    │   ├── Unsupported             Unsupported
    │   ├── Diverged                TrainingFailed: the same seed and data diverge again
    │   └── NothingLearned          NothingLearned
    ├── InsufficientMemory          exit 1: InsufficientMemory
    ├── DiskFull                    exit 1: DiskFull
    ├── TrainingFailed              exit 1: TrainingFailed
    └── Superseded                  exit 75: Superseded; another pod has the folder
    Terminated                      exit 143: CheckpointSaved or WaitingForCheckpoint; never success

Owns: the tree, and whose fault an error of the system is. Must not know: how a failure is detected.
"""

from __future__ import annotations

import errno

from pilotboat.api.reasons import Reason
from pilotboat.api.runtime import EXIT_BAD_INPUT, EXIT_SUPERSEDED, EXIT_TERMINATED


class TrainerError(Exception):
    """A training that ended early; the text is what the user reads."""

    reason = Reason.TRAINING_FAILED
    exit_code = 1


class BadInput(TrainerError):
    """What was asked for cannot be done: trying again changes nothing."""

    exit_code = EXIT_BAD_INPUT


class InvalidConfig(BadInput):
    """trainer.json is not a TrainerConfig."""

    reason = Reason.INVALID_SPEC


class InvalidDataset(BadInput):
    """The data set cannot be used; the file and the line are named."""

    reason = Reason.INVALID_DATASET


class InvalidModel(BadInput):
    """The base is no model that can be trained."""

    reason = Reason.INVALID_MODEL


class Unsupported(BadInput):
    """A combination that does not exist."""

    reason = Reason.UNSUPPORTED


class Diverged(BadInput):
    """The loss is no number any more."""


class NothingLearned(BadInput):
    """Training ended and no weight had changed."""

    reason = Reason.NOTHING_LEARNED


class InsufficientMemory(TrainerError):
    """The device or the host has no more memory to give."""

    reason = Reason.INSUFFICIENT_MEMORY


class DiskFull(TrainerError):
    """A volume has no room."""

    reason = Reason.DISK_FULL


class TrainingFailed(TrainerError):
    """Anything else."""


class Terminated(BaseException):
    """SIGTERM before the end. As KeyboardInterrupt, it must pass whatever makes the best of a failure: libraries that
    load a model take any Exception for a fault of its files."""

    exit_code = EXIT_TERMINATED

    def __init__(self, message: str, saved: bool) -> None:
        super().__init__(message)
        self.reason = Reason.CHECKPOINT_SAVED if saved else Reason.WAITING_FOR_CHECKPOINT


class Superseded(TrainerError):
    """A later pod of the job has claimed its folder: this one must write nothing any more."""

    reason = Reason.SUPERSEDED
    exit_code = EXIT_SUPERSEDED


_ASKED_FOR = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
)


def of_the_machine(error: Exception) -> bool:
    """Whether the system failed at what is asked for rightly, as a volume whose server is away: another try may do."""
    return isinstance(error, OSError) and error.errno is not None and error.errno not in _ASKED_FOR
