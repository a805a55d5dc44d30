"""The small programs that run inside a server's container, by exec: they find the engine and do one thing to it.

Owns: the programs. Must not know: how they get there. Each is Python for `python3 -c`, takes its wishes as JSON, and
says `ready` when the fault stands. Those that last undo what they did when their time is over, when the connection to
them ends, and when they are told to end; `MEND` undoes it once more, whatever became of them.

Their wishes have `run`, whose they are: nothing is done where a program of another run lasts, nor is that one's fault
undone. What a program that was killed has left is nobody's, and is undone by whoever comes next.

A process that was started by exec has the parent 0, so the container's own are those below PID 1. PID 1 itself ignores
every signal from inside.
"""

from __future__ import annotations

FAILED = 3
"""Exit status of a program that did nothing; what it wrote says why."""

_COMMON = """
import glob, json, os, select, signal, sys, time
wish = json.loads(sys.argv[1])
FOLDER, NAME, RUN = wish.get("folder", "/tmp"), "pilotboat-rehearsal", wish.get("run")
FILE = os.path.join(FOLDER, f"{NAME}-{RUN}")

def refuse(words):
    print(words, flush=True)
    raise SystemExit(3)

def processes():
    for name in os.listdir("/proc"):
        try:
            stat = open(f"/proc/{name}/stat").read() if name.isdigit() else ""
            words = open(f"/proc/{name}/cmdline", "rb").read().split(b"\\0") if stat else []
        except OSError:
            continue
        if stat:
            yield int(name), int(stat.rpartition(")")[2].split()[1]), words

def engine():
    found = sorted(pid for pid, parent, _ in processes() if parent == 1)
    return found[0] if found else refuse("the engine is PID 1 of its container, which no signal from inside can reach")

def lasting():
    for pid, _, words in processes():
        if len(words) < 4 or words[1] != b"-c" or NAME.encode() not in words[2] or pid == os.getpid():
            continue
        try:
            their = json.loads(words[3])
        except ValueError:
            continue
        if isinstance(their, dict) and "seconds" in their:
            yield pid, their

def clean():
    for pid, parent, _ in processes():
        if pid != os.getpid() and parent != 0:
            try:
                os.kill(pid, signal.SIGCONT)
            except (ProcessLookupError, PermissionError):
                pass
    for path in glob.glob(os.path.join(FOLDER, NAME + "*")):
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

def alone():
    for pid, their in lasting():
        refuse(f"the fault of another rehearsal stands in this pod: wait until it is over, which it is within "
               f"{their['seconds']:g} s, or end it with kubectl exec and `sh -c 'kill {pid}'`")
    clean()

def held(seconds):
    select.select([0], [], [], max(0, seconds))
    return bool(select.select([0], [], [], 0)[0])

def ends(number, frame):
    raise SystemExit(0)

for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, ends)
"""

KILL = (
    _COMMON
    + """
alone()
if wish["process"] == "worker":
    found = sorted(pid for pid, _, words in processes() if b"pilotboat_server.worker" in words)
    pid = found[0] if found else refuse("no HTTP worker is a process of its own: service.workers is 1")
else:
    pid = engine()
print("ready", flush=True)
os.kill(pid, signal.SIGKILL)
"""
)

SLOW = (
    _COMMON
    + """
alone()
pid, end, share = engine(), time.monotonic() + wish["seconds"], wish["share"]
try:
    os.kill(pid, signal.SIGSTOP)
    print("ready", flush=True)
    while time.monotonic() < end:
        if held(min(0.1 * share if share < 1 else wish["seconds"], end - time.monotonic())):
            break
        if share < 1:
            os.kill(pid, signal.SIGCONT)
            if held(0.1 * (1 - share)):
                break
            os.kill(pid, signal.SIGSTOP)
except ProcessLookupError:
    pass
finally:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass
"""
)

FILL = (
    _COMMON
    + """
alone()
STEP, KEPT, LITTLE = 16 << 20, 0.12, 0.01
room = os.statvfs(FOLDER)
free, whole = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
mounts = [line.split() for line in open("/proc/mounts")]
in_memory = any(words[1] == FOLDER and words[2] == "tmpfs" for words in mounts)
if not in_memory and free - wish["bytes"] < KEPT * whole and wish["bytes"] > LITTLE * free:
    refuse(f"bytes: {wish['bytes']} would leave less than 12 % of {FOLDER}'s file system, which has {whole} bytes "
           f"and {free} free: it is the node's own, and others would be hit")
try:
    with open(FILE, "wb") as out:
        done = 0
        try:
            while done < wish["bytes"]:
                part = min(STEP, wish["bytes"] - done)
                os.posix_fallocate(out.fileno(), done, part)
                done += part
        except OSError as error:
            print("full after", done, "bytes:", error.strerror, file=sys.stderr)
        print("ready", flush=True)
        held(wish["seconds"])
finally:
    if os.path.exists(FILE):
        os.unlink(FILE)
"""
)

MEND = (
    _COMMON
    + """
others = False
for pid, their in lasting():
    if their.get("run") == RUN:
        os.kill(pid, signal.SIGTERM)
    else:
        others = True
if not others:
    clean()
print("ready", flush=True)
"""
)

LOADED = (
    _COMMON
    + """
import urllib.request
try:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the pod's proxy is another machine
    with direct.open(f"http://127.0.0.1:{wish['port']}/startupz", timeout=5) as answer:
        print(json.dumps(json.load(answer).get("startup_seconds") or {}))
    print("ready", flush=True)
except Exception as error:  # told to whoever rehearses, whatever it is
    refuse(f"/startupz: {error}")
"""
)
