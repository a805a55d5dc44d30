"""Drives the program that builds: buildah with a storage of its own, or a docker or podman that answers.

The three take nearly the same commands; what differs is data here. It must not know which images there are.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools import host
from tools.steps import StepFailed, run, tail

CHOICES = ("buildah", "docker", "podman")
PUSHING = re.compile(
    r'^(?:Error: |pushing image "[^"]*" to "[^"]*": |trying to reuse blob \S+ at destination: |'
    r"checking whether a blob \S+ exists in \S+: )+"
)
"""What buildah and podman say of themselves before they say what the registry said."""
BUILDKIT = {"DOCKER_BUILDKIT": "1"}  # docker's other way of building mounts no secrets and no caches


@dataclass(frozen=True)
class Engine:
    """One builder. `storage` is its overlay store, where the layers of built images can be read."""

    name: str
    command: tuple[str, ...]
    storage: Path | None = None

    def tags(self) -> set[str]:
        """Every reference that it holds."""
        listed = "{{.Name}}:{{.Tag}}" if self.name == "buildah" else "{{.Repository}}:{{.Tag}}"
        return set(self._said("images", "--format", listed).decode().split())

    def build(self, ref: str, file: Path, context: Path, values: Mapping[str, str], label: str, log: Path) -> None:
        """One image. Wheels come through the host's cache; the host's certificates are lent, not baked in."""
        command = [*self.command, "build", *self._lent(), "--label", label, "--tag", ref, "--file", str(file)]
        for name, value in values.items():
            command += ["--build-arg", f"{name}={value}"]
        try:
            run([*command, str(context)], log=log, env=self._environment())
        finally:
            self._sweep()

    def _environment(self) -> dict[str, str]:
        if self.name == "docker":
            return BUILDKIT
        return {"TMPDIR": str(host.cache("containers", "tmp"))}  # a layer on its way is as large as the layer

    def _lent(self) -> list[str]:
        options = []
        if host.CERTIFICATES.exists():
            options += ["--secret", f"id=ca,src={host.CERTIFICATES}"]
        if self.name != "docker":  # docker has a cache of its own for the same mount
            options += ["--layers", "--pull=never", "--volume", f"{host.cache('uv')}:/cache/uv"]
        if self.name == "buildah":
            options += ["--isolation", "chroot"]
        return options

    def _sweep(self) -> None:
        """buildah leaves the containers of helper stages and failed builds: gigabytes, in a store that is ours."""
        if self.name == "buildah":
            subprocess.run([*self.command, "rm", "--all"], capture_output=True)

    def pull(self, ref: str, as_ref: str, log: Path) -> None:
        """An image from a registry, under a name of ours."""
        run([*self.command, "pull", ref], log=log)
        run([*self.command, "tag", ref, as_ref], log=log)

    def push(self, ref: str, destination: str, log: Path) -> None:
        """A built image into a registry, by the logins that the program already has."""
        pair: tuple[str, ...] = (ref, f"docker://{destination}")
        if self.name == "docker":
            run([*self.command, "tag", ref, destination], log=log)
            pair = (destination,)
        try:
            run([*self.command, "push", *pair], log=log)
        except StepFailed as failure:
            raise StepFailed(
                f"{destination} was not pushed: {said(tail(log, 1))}. What a registry with a login or a certificate of "
                f"its own needs: docs/images.md#a-registry-of-your-own. {self.name}'s own words: {log}"
            ) from failure

    def output(self, ref: str, script: str, *arguments: str) -> bytes:
        """What a shell script says inside a built image, arguments from $0 on. Raises StepFailed where it fails."""
        shell = ("sh", "-c", script, *arguments)
        if self.name != "buildah":
            return self._said("run", "--rm", "--network=none", "--entrypoint", shell[0], ref, *shell[1:])
        container = self._said("from", "--pull=never", ref).decode().strip()
        try:
            return self._said("run", "--isolation", "chroot", container, "--", *shell)
        finally:
            self._said("rm", container)

    def _said(self, *arguments: str) -> bytes:
        done = subprocess.run([*self.command, *arguments], capture_output=True)
        if done.returncode:
            raise StepFailed(f"{self.name} {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def remove(self, refs: Iterable[str]) -> None:
        """References that are no longer wanted; in a store of ours, what has no name goes too. What is in use stays."""
        for ref in refs:
            subprocess.run([*self.command, "rmi", ref], capture_output=True)
        if self.name == "buildah":
            subprocess.run([*self.command, "rmi", "--prune"], capture_output=True)


def buildah() -> Engine:
    """buildah with its storage in the project's cache: nothing of the user's own is touched."""
    storage = host.cache("containers") / "storage"
    # State of running builds must not outlive a restart of the machine, so it is not in the cache.
    run_root = Path("/run") / f"pilotboat-{hashlib.sha256(str(storage).encode()).hexdigest()[:8]}"
    options = ("--root", str(storage), "--runroot", str(run_root), "--storage-driver", "overlay")
    return Engine("buildah", (host.need("buildah", "buildah"), *options), storage)


def said(line: str) -> str:
    """The registry's own words, of the last line that a push printed."""
    return PUSHING.sub("", line.strip()) or "the builder does not say why"


def lack(program: str) -> str:
    """Why docker or podman cannot build here, as a clause; empty where it can."""
    if shutil.which(program) is None:
        return f"{program} is not on this machine"
    if not _succeeds(program, "info"):
        return f"{program} does not answer: start its engine"
    if program == "docker" and not _succeeds(program, "build", "--help"):
        return "docker has no BuildKit, which is a plug-in of its own from docker 23 on: install buildx"
    return ""


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, env={**os.environ, **BUILDKIT}).returncode == 0


def takes_buildah() -> bool:
    """Whether buildah builds here, which may be installed for it."""
    wanted = os.environ.get("PILOTBOAT_BUILDER")
    available = os.geteuid() == 0 and (shutil.which("buildah") or shutil.which("apt-get"))
    return wanted == "buildah" or bool(not wanted and available)


def choose() -> Engine:
    """What `PILOTBOAT_BUILDER` names; else buildah where it is or can be installed; else the engine that can build."""
    wanted = os.environ.get("PILOTBOAT_BUILDER")
    if wanted and wanted not in CHOICES:
        raise StepFailed(f"PILOTBOAT_BUILDER={wanted}: one of {', '.join(CHOICES)} is needed")
    if takes_buildah():
        return buildah()
    lacks = {program: lack(program) for program in ([wanted] if wanted else CHOICES[1:])}
    for program, lacking in lacks.items():
        if not lacking:
            return Engine(program, (program,))
    raise StepFailed(f"no builder: {'; '.join(lacks.values())}. As root on Debian, buildah is installed and used.")
