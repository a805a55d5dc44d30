"""`pilotboat-trainer --config trainer.json`: one training, one report, one exit code.

Owns: arguments, the environment, the end. Must not know: how training is done. The heavy libraries are imported only
after the data set was read whole: a broken line is reported in a second, not after a minute of loading.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from pilotboat.api.runtime import CONFIG_DIR, TerminationReport, TrainerConfig, TrainerResult

from . import dataset, output, poster, progress, report
from .errors import DiskFull, InvalidConfig, Terminated, TrainerError, TrainingFailed
from .files import is_full
from .signals import Stop
from .threads import cpu_threads

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DISABLE_KUBEFLOW_INTEGRATION": "TRUE",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}
SPINS = "1000"
"""How often threads look for one another before they sleep. By default libgomp's spin, and on cores that others want
too the spinning thread keeps the one that it waits for from running."""
FULL = (
    "no room left on a volume of the job's: enlarge the claim (output.pvc, checkpoints.volume), or create the "
    "FineTuneJob anew with a lower checkpoints.keep"
)
CACHES = {"HF_HOME": "/tmp/huggingface", "TORCHINDUCTOR_CACHE_DIR": "/tmp/inductor"}


def main(argv: Sequence[str] | None = None) -> int:
    """Train, report, and return the exit code."""
    arguments = argparse.ArgumentParser(prog="pilotboat-trainer", description=__doc__)
    arguments.add_argument("--config", type=Path, default=Path(CONFIG_DIR / "trainer.json"))
    options = arguments.parse_args(argv)
    stop = Stop()
    try:
        stop.listen()
        result = _run(_load(options.config), stop)
    except (TrainerError, Terminated) as error:
        return _failed(error)
    except Exception as error:  # whatever else: a report with a cause is worth more than a bare traceback
        traceback.print_exc()
        return _failed(_unforeseen(error))
    words = f"{result.steps} steps on {result.trained_on}, loss {result.train_loss}"
    print(f"trainer: done: {words}", flush=True)
    report.write(report.trained(result, words))
    return 0


def _run(config: TrainerConfig, stop: Stop) -> TrainerResult:
    examples = dataset.read(config.dataset)
    print(f"trainer: {examples.lines} lines, format {examples.format}, {len(examples.rows)} examples", flush=True)
    if examples.held_back:
        print(f"trainer: held back, by their names for judging: {', '.join(examples.held_back)}", flush=True)
    place = output.Output(Path(config.output), Path(config.checkpoint_folder) if config.checkpoint_folder else None)
    fingerprint = output.fingerprint(config, examples)
    if done := place.finished(fingerprint):
        print("trainer: finished by an earlier pod; its result is whole", flush=True)
        with contextlib.closing(poster.from_environment()) as posts:
            posts.post(progress.over(done))
        return done
    threads = cpu_threads(config.cpu_threads)
    environment(threads)
    from . import train  # torch and all that comes with it

    with contextlib.closing(poster.from_environment()) as posts:
        return train.train(train.Job(config, examples, place, place.begin(fingerprint), posts, stop, threads))


def environment(threads: int) -> None:
    """What the libraries read once, as they are imported."""
    os.environ |= OFFLINE | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    for name, value in CACHES.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore", FutureWarning)  # the libraries' words to each other; the log is the user's


def _load(path: Path) -> TrainerConfig:
    try:
        return TrainerConfig.load(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidConfig(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise InvalidConfig(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _unforeseen(error: Exception) -> TrainerError:
    words = f"{type(error).__name__}: {error}"[:2000]
    return DiskFull(f"{FULL}. {words}") if is_full(error) else TrainingFailed(words)


def _failed(error: TrainerError | Terminated) -> int:
    print(f"trainer: {error.reason}: {error}", file=sys.stderr, flush=True)
    report.write(TerminationReport(reason=error.reason, message=str(error)))
    return error.exit_code
