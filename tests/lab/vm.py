"""The lab on a machine of the other kind: a virtual one, with systemd and cgroup v2, whatever this one has.

    PYTHONPATH=tests python3 -m lab.vm        the lab up and down in there, and its own tests between

Owns: a Debian with a kernel of its own, made once and kept in the cache; what it runs when it boots; its end. It must
not know what the lab does. Each run starts from the same disk and throws its changes away. The guest has no network.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from lab import build
from lab.machine import PACKAGES
from tools import host
from tools.endings import spoken
from tools.steps import StepFailed, run, step

SUITE = "bookworm"
SYSTEM = ("systemd-sysv", "udev", "linux-image-cloud-amd64", "kmod", "procps", "python3", "python3-pytest")
DISK, MEMORY, CORES, MINUTES = "12G", "8G", "2", 60
SLOWER = 10
"""How many times longer everything is waited for where the processor is emulated."""
KERNEL = "root=/dev/vda rw console=ttyS0 panic=-1 systemd.unified_cgroup_hierarchy=1"
TREE = Path("/work/tree")
ENDED = "The guest ended with "
FSTAB = "/dev/vdb /work ext4 defaults 0 0\n"
UNIT = f"""[Unit]
Description=What this machine was made for
RequiresMountsFor=/work
SuccessAction=poweroff
FailureAction=poweroff

[Service]
Type=oneshot
WorkingDirectory={TREE}
Environment=HOME=/root PILOTBOAT_CACHE=/var/cache/pilotboat PYTHONPATH=tests:.
ExecStart=/bin/sh -c 'sh /work/script > /dev/ttyS1 2>&1; echo {ENDED}$? > /dev/ttyS1'

[Install]
WantedBy=multi-user.target
"""
# Without the other end-to-end tests' conftest, which wants the operator's packages; and with no plugin to configure.
TESTS = "python3 -m pytest -c /dev/null --rootdir . --noconftest -p no:cacheprovider -W ignore -v tests/e2e/test_lab.py"
PATIENT = "every_other or logs or gpus"
"""Of the tests, those that waited long enough when the processor was emulated; the rest were not tried there."""
SCRIPT = """
export LAB_PATIENCE={patience} LAB_NODE_GRACE={grace}
echo "$(uname -sr), $(stat -fc %T /sys/fs/cgroup), up since $(cut -d' ' -f1 /proc/uptime) s"
groups() {{ find /sys/fs/cgroup -type d -path '*/pb-*'; }}
if ! python3 -m lab up; then
    grep -hE '^[EF][0-9]|fatal' /var/cache/pilotboat/logs/lab-*-failed/*
    exit 1
fi
{tests}
code=$?
echo "The root hands down $(cat /sys/fs/cgroup/cgroup.subtree_control), to $(groups | wc -l) groups of the lab"
systemctl daemon-reload
python3 -m lab status || code=1
python3 -m lab down || code=1
groups | grep . && code=1
grep -F /var/cache/pilotboat/lab /proc/self/mountinfo && code=1
exit $code
"""


def system(log: Path) -> Path:
    """The folder of the guest's disk, kernel and initial file system, made where there is none of this recipe."""
    packages = sorted({*SYSTEM, *PACKAGES.values(), "containernetworking-plugins"})
    recipe = "\0".join((SUITE, *packages, DISK, FSTAB, UNIT))
    kept = host.cache("vm") / hashlib.sha256(recipe.encode()).hexdigest()[:12]
    if (kept / "disk").exists():
        return kept
    with (
        step("Making a Debian that boots", usual="2 min", log=log),
        tempfile.TemporaryDirectory(dir=host.cache("vm")) as folder,
    ):
        made, root = Path(folder, "made"), Path(folder, "root")
        made.mkdir()
        debootstrap = host.need("debootstrap", "debootstrap")
        run([debootstrap, "--variant=minbase", f"--include={','.join(packages)}", SUITE, root], log=log)
        (root / "etc/fstab").write_text(FSTAB)
        (root / "etc/systemd/system/purpose.service").write_text(UNIT)
        run(["chroot", root, "systemctl", "enable", "purpose.service"], log=log)
        cache = root / "var/cache/pilotboat"
        cache.mkdir()
        (cache / "bin").symlink_to("/work/bin")
        for part in ("vmlinuz", "initrd.img"):
            (found,) = (root / "boot").glob(f"{part}-*")
            shutil.copyfile(found, made / part)
        shutil.rmtree(root / "var/cache/apt/archives")
        disk(made / "disk", root, DISK, log)
        shutil.rmtree(kept, ignore_errors=True)
        made.rename(kept)
    for other in kept.parent.iterdir():
        if other != kept:
            shutil.rmtree(other)
    return kept


def disk(image: Path, root: Path, size: str, log: Path) -> None:
    """A sparse ext4 image of a folder's files."""
    run(["truncate", f"--size={size}", image], log=log)
    run([host.need("mkfs.ext4", "e2fsprogs"), "-q", "-F", "-d", root, image], log=log)


def work(image: Path, script: str, log: Path) -> None:
    """A disk with this tree, the lab's programs and what to run."""
    programs = build.ensure()
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(asked, cwd=host.ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    with tempfile.TemporaryDirectory(dir=image.parent) as folder:
        root = Path(folder)
        shutil.copytree(programs, root / "bin" / programs.name, symlinks=True)
        for name in filter(None, names):
            if (host.ROOT / name).is_file():
                (root / TREE.name / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(host.ROOT / name, root / TREE.name / name)
        (root / "script").write_text(script)
        disk(image, root, "1G", log)


def virtualizes() -> bool:
    """KVM can run the guest. A /dev/kvm without help from the processor (PVM) runs kernels of its own kind only."""
    return Path("/dev/kvm").exists() and bool({"vmx", "svm"} & set(Path("/proc/cpuinfo").read_text().split()))


def boot(kept: Path, image: Path, console: Path) -> int:
    """Boots, shows what the guest says on its second serial line, and returns how its script ended."""
    command = [host.need("qemu-system-x86_64", "qemu-system-x86"), "-no-reboot", "-nodefaults", "-display", "none"]
    command += ["-accel", *(("kvm", "-cpu", "host") if virtualizes() else ("tcg,thread=multi", "-cpu", "max"))]
    command += ["-smp", CORES, "-m", MEMORY]
    command += ["-kernel", str(kept / "vmlinuz"), "-initrd", str(kept / "initrd.img"), "-append", KERNEL]
    for each in (kept / "disk", image):
        command += ["-drive", f"file={each},format=raw,if=virtio,snapshot=on"]
    command += ["-device", "virtio-rng-pci", "-serial", f"file:{console}", "-serial", "stdio"]
    ended = None
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as guest:
        too_long = threading.Timer(MINUTES * 60, guest.kill)
        too_long.start()
        try:
            for line in guest.stdout or ():
                print(line.rstrip(), flush=True)
                ended = line.removeprefix(ENDED) if line.startswith(ENDED) else ended
        finally:
            too_long.cancel()
            guest.kill()
    if ended is None:
        raise StepFailed(f"The guest said nothing of its end within {MINUTES} minutes: see {console}.")
    return int(ended)


def main() -> int:
    """The lab in the guest; 0 where it came up, its tests passed and nothing was left behind."""
    log, console = (host.cache("logs") / name for name in ("lab-vm.log", "lab-vm-console.log"))
    kept = system(log)
    slower, tests = (1, TESTS) if virtualizes() else (SLOWER, f"{TESTS} -k '{PATIENT}'")
    script = SCRIPT.format(patience=slower, grace=20 * slower, tests=tests)
    with tempfile.TemporaryDirectory(dir=host.cache("vm-work")) as folder:
        image = Path(folder) / "work"
        with step("Packing the tree and the lab's programs", usual="5 s", log=log):
            work(image, script, log)
        with step("The lab with cgroup v2, in a virtual machine", usual="3 min; emulated 30", log=console):
            return boot(kept, image, console)


if __name__ == "__main__":
    sys.exit(spoken(main))
