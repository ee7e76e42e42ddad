"""The mark of a run: an environment variable that all of its processes have, and by which the system shows them.

Light: the supervisor of a command imports it.
"""

from __future__ import annotations

import ctypes
import os

from provisioner.system.processes import process_ids

RUN = "PROVISIONER_RUN"
BLANK = "-" * 36  # as long as an id


def put_on(run_id: str) -> None:
    """Mark this process, which was started with the mark `BLANK`, as one of a run, as far as the system shows it."""
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_void_p
    place = libc.getenv(RUN.encode())
    if place and ctypes.string_at(place) == BLANK.encode():
        ctypes.memmove(place, run_id.encode()[: len(BLANK)].ljust(len(BLANK), b"\0"), len(BLANK))


def marked(run_id: str) -> list[int]:
    """The processes of a run, without this one."""
    mark = f"{RUN}={run_id}".encode()
    found = []
    for number in process_ids():
        if number != os.getpid():
            try:
                with open(f"/proc/{number}/environ", "rb") as file:
                    if mark in file.read().split(b"\0"):
                        found.append(number)
            except OSError:
                continue
    return found
