"""Durable wake-ups: one empty file per app that needs a look. Standard library only.

Leaving one is creating a file, which a shell can do without starting a process; leaving it twice changes nothing. A
taker renames the file before it looks at the refs, so a wake-up left later is a new file; it removes the renamed file
when it has looked, so one that was cut off is found again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from provisioner.system import failpoints

TAKEN = ".taken"


def leave(inbox: str, app_id: str) -> None:
    os.close(os.open(os.path.join(inbox, app_id), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def take(inbox: str, busy: Collection[str] = (), failed: Collection[str] = ()) -> list[str]:
    """The ids of the apps to look at, each once, including those whose last taker did not finish.

    A wake-up of a `busy` app stays: its taker is still working, and would remove the one that is taken now. For a `failed` app
    only a new one is taken.
    """
    ids = set()
    for name in os.listdir(inbox):
        app_id = name.removesuffix(TAKEN)
        if app_id in busy:
            continue
        if app_id == name:
            try:
                os.rename(os.path.join(inbox, name), os.path.join(inbox, name + TAKEN))
            except FileNotFoundError:  # another taker was faster, and it will look
                continue
        elif app_id in failed:
            continue
        ids.add(app_id)
    if ids:
        failpoints.point("inbox.claimed")
    return sorted(ids)


def done(inbox: str, app_id: str) -> None:
    try:
        os.unlink(os.path.join(inbox, app_id + TAKEN))
    except FileNotFoundError:
        return


def pending(inbox: str) -> bool:
    return any(not name.endswith(TAKEN) for name in os.listdir(inbox))


def ages(inbox: str) -> list[float]:
    """For how many seconds each wake-up has waited, including one whose taker has not finished."""
    now = time.time()
    found = []
    with os.scandir(inbox) as entries:
        for entry in entries:
            try:
                found.append(now - entry.stat().st_mtime)
            except FileNotFoundError:
                continue
    return found
