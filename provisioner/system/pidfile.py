"""A running process, recorded in a file that a shell script can check without starting a process.

``<process id> <its start time> <more>``. The start time (from ``/proc/<id>/stat``; 0 if the system does not show it)
reveals a record that a killed process left behind.
"""

from __future__ import annotations

import os


def announce(path: str, more: str = "") -> None:
    """Record in the file `path` that this process runs."""
    beside = path + ".new"
    with open(beside, "w") as file:
        file.write(f"{os.getpid()} {_started(os.getpid())} {more}\n")
    os.rename(beside, path)


def withdraw(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)


def at_work(path: str) -> tuple[int, str] | None:
    """Process id and further words of the process in the file, if it is alive; else None."""
    try:
        with open(path, errors="surrogateescape") as file:
            pid, start, more = file.read().rstrip("\n").split(" ", 2)
        return (int(pid), more) if start == _started(int(pid)) else None
    except (OSError, ValueError):
        return None


def _started(pid: int) -> str:
    """When a process started; 0 if the system does not show it, and empty for one that has ended or is a zombie."""
    if not os.path.exists("/proc/self/stat"):
        os.kill(pid, 0)
        return "0"
    with open(f"/proc/{pid}/stat", errors="surrogateescape") as file:
        fields = file.read().rpartition(") ")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]
