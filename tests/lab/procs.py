"""The lab's processes: started into a namespace, recorded, recognised again, ended.

A recorded PID is trusted only with its start time and the machine's boot: after a crash or a reboot the same number may
be somebody else's process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import layout
from tools.steps import StepFailed


@dataclass(frozen=True)
class Identity:
    pid: int
    started: int  # clock ticks since boot
    boot: str


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def parse_stat(stat: str) -> tuple[str, int]:
    """State and start time from /proc/PID/stat; the command in it may hold spaces and parentheses."""
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def identify(pid: int) -> Identity | None:
    """Who has this PID now; None where nobody has, or only a zombie."""
    try:
        state, started = parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (OSError, IndexError, ValueError):
        return None
    return None if state in "ZX" else Identity(pid, started, boot_id())


def alive(identity: Identity) -> bool:
    return identify(identity.pid) == identity


def cmdline(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def all_pids() -> list[int]:
    """None where there is no /proc, which is told elsewhere."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]


def working_in(relative: str, besides: Path) -> Path | None:
    """A folder whose path ends so, is there, is not `besides`, and stands in the command line of a lab's program."""
    named = re.compile(rf"(?:^|=)(/.*/{re.escape(relative)})/(?:etcd|n[0-9]+)(?:/|$)")
    words = (word for pid in all_pids() for word in cmdline(pid))
    folders = (Path(found[1]) for word in words if (found := named.search(word)))
    # `os.path` answers where we may not look, as who is not root, who can end nothing anyway.
    return next((each for each in folders if os.path.isdir(each) and each.resolve() != besides.resolve()), None)


def in_netns(netns: str | None) -> list[str]:
    """`ip netns exec` would mount a /sys of its own, in which kubelet finds no cgroups."""
    return ["nsenter", f"--net=/run/netns/{netns}"] if netns else []


@dataclass(frozen=True)
class Processes:
    """The processes recorded in one folder."""

    dir: Path

    def _record(self, name: str) -> Path:
        return self.dir / f"{name}.json"

    def spawn(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        netns: str | None = None,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> Identity:
        """Starts a process that outlives us. nsenter replaces itself by the command, so the PID is the command's."""
        self.dir.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as out:
            process = subprocess.Popen(
                [*in_netns(netns), *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                pass_fds=pass_fds,
                cwd="/",
                start_new_session=True,
            )
        identity = identify(process.pid)
        if identity is None:
            raise StepFailed(f"{name} ended at once; its log is {log}.")
        process.returncode = 0  # it is not ours to wait for: no warning when this object goes
        self._record(name).write_text(json.dumps(asdict(identity)))
        return identity

    def get(self, name: str) -> Identity | None:
        try:
            return Identity(**json.loads(self._record(name).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.dir.glob("*.json"))

    def running(self, name: str) -> bool:
        identity = self.get(name)
        return identity is not None and alive(identity)

    def stop(self, *names: str, grace: float = 5.0) -> None:
        """Asks all of them to end, then makes them, and forgets them."""
        identities = [identity for name in names if (identity := self.get(name))]
        end(identities, grace=grace)
        for name in names:
            self._record(name).unlink(missing_ok=True)


def send(identity: Identity, number: signal.Signals) -> None:
    if alive(identity):
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, number)


def reap(pid: int) -> None:
    """A child that has ended stays a zombie until asked for; a process that is not our child is init's to ask for."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def end(identities: Iterable[Identity], *, grace: float) -> None:
    waiting = list(identities)
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for identity in waiting:
            send(identity, number)
        deadline = time.monotonic() + patience
        while waiting and time.monotonic() < deadline:
            for identity in waiting:
                reap(identity.pid)
            waiting = [identity for identity in waiting if alive(identity)]
            if waiting:
                time.sleep(0.05)


def wait_until(ready: Callable[[], bool], *, what: str, timeout: float, interval: float = 0.1) -> None:
    timeout *= layout.patience()
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout:.0f} s.")
        time.sleep(interval)
