"""Programs of a node: started so that they outlive whoever starts them, found again, and ended."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path


def start(command: Sequence[str], directory: Path, name: str) -> None:
    """Start a program that writes ``name.log`` and is found by ``name.pid``."""
    with (directory / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory, start_new_session=True
        )
    (directory / f"{name}.pid").write_text(f"{process.pid} {_born(process.pid)}")


def running(directory: Path, name: str) -> int | None:
    """The number of a node's program where it runs; a number that another process has meanwhile is none."""
    try:
        pid, born = (directory / f"{name}.pid").read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if born != "-" and _born(int(pid)) == born else None


def postmaster(data: Path) -> int | None:
    """The number of the PostgreSQL that runs on the data: Patroni has started it, and may be gone."""
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        return pid if Path(f"/proc/{pid}/cwd").samefile(data) else None
    except (OSError, ValueError, IndexError):
        return None


def kill(pid: int) -> None:
    """kill -9 of a process and all that it has started."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)  # it starts nobody meanwhile
    children = _children(pid)
    for each in (pid, *children):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    wait(lambda: not any(map(_born, (pid, *children))), 20, "the processes end")


def end(pids: Iterable[int], seconds: float) -> None:
    """Ask processes to stop; whoever has not after `seconds` is killed."""
    asked = list(pids)
    for pid in asked:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    with suppress(TimeoutError):
        wait(lambda: not any(map(_born, asked)), seconds, "the processes end")
    for pid in asked:
        if _born(pid):
            kill(pid)


def wait(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Raises TimeoutError where something has not become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it has taken more than {seconds:.0f} s until {what}")
        time.sleep(0.05)


def not_as_root(directory: Path) -> list[str]:
    """What a command begins with so that PostgreSQL runs, which refuses root; everything may still belong to root.

    Raises OSError where neither way to be somebody else is open here.
    """
    if os.geteuid() != 0:
        return []
    entry = pwd.getpwnam("postgres")
    pretend = ["unshare", "--user", f"--map-user={entry.pw_uid}", f"--map-group={entry.pw_gid}", "--"]
    change = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--"]
    look = [sys.executable, "-c", "import os, sys, patroni; os.listdir(sys.argv[1])", str(directory)]
    if subprocess.run([*pretend, *look], capture_output=True, check=False).returncode == 0:
        return pretend
    for path in (directory, *directory.rglob("*")):
        shutil.chown(path, entry.pw_uid, entry.pw_gid)
    done = subprocess.run([*change, *look], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return change
    raise OSError(f"PostgreSQL does not run as root, and nobody else gets at {directory} here: {done.stderr.strip()}")


def _children(pid: int) -> list[int]:
    """All that come from a process, whatever sessions they have made."""
    found = []
    try:
        direct = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    for child in direct:
        found += [child, *_children(child)]
    return found


def _born(pid: int) -> str:
    """When a process was started, in ticks since the machine was; empty where it has ended, though nobody has looked."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
