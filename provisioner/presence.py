"""Who is at work, said in a file: a shell script can check it without starting a process.

``<process id> <its start time> <more>``. The start time (of ``/proc/<id>/stat``; 0 where the system does not tell) is
what makes the word of a process that was killed known for what it is.
"""

from __future__ import annotations

import os


def announce(path: str, more: str = "") -> None:
    """Say in the file `path` that this process is at work."""
    start = "0"
    if os.path.exists("/proc/self/stat"):
        with open("/proc/self/stat") as file:
            start = file.read().rpartition(") ")[2].split()[19]
    beside = path + ".new"
    with open(beside, "w") as file:
        file.write(f"{os.getpid()} {start} {more}\n")
    os.rename(beside, path)


def withdraw(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)
