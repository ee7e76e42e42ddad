"""Who is at work, said in a file: a shell script can check it without starting a process.

``<process id> <its start time> <more>``. The start time (of ``/proc/<id>/stat``; 0 where the system does not tell) is
what makes the word of a process that was killed known for what it is.
"""

from __future__ import annotations

import os


def announce(path: str, more: str = "") -> None:
    """Say in the file `path` that this process is at work."""
    beside = path + ".new"
    with open(beside, "w") as file:
        file.write(f"{os.getpid()} {_started(os.getpid())} {more}\n")
    os.rename(beside, path)


def withdraw(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)


def at_work(path: str) -> tuple[int, str] | None:
    """Process id and further words of whoever announced itself in the file and lives; None where nobody does."""
    try:
        with open(path, errors="surrogateescape") as file:
            pid, start, more = file.read().rstrip("\n").split(" ", 2)
        return (int(pid), more) if start == _started(int(pid)) else None
    except (OSError, ValueError):
        return None


def _started(pid: int) -> str:
    """When a process started; 0 where the system does not tell, and empty for one that ended or waits to be buried."""
    if not os.path.exists("/proc/self/stat"):
        os.kill(pid, 0)
        return "0"
    with open(f"/proc/{pid}/stat", errors="surrogateescape") as file:
        fields = file.read().rpartition(") ")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]
