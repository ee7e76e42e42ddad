"""The worker that a local hook starts if no daemon runs: it acts on the inbox, one process at a time.

Twenty git commands at once start it once or a few times: it records that it runs, so that later hooks do not start
another, and all but one exit before they have imported the modules, which takes ten times as long as the rest.
"""

from __future__ import annotations

import os

from provisioner.system import inbox
from provisioner.system.file_lock import try_lock
from provisioner.system.home import Home, forget_git
from provisioner.system.pidfile import announce, withdraw


def drain(home_path: str) -> None:
    """Act on every wake-up in the inbox, then on steps that are due soon; exit when a daemon runs or nothing is left.

    A process that finds another worker exits, as do hooks that find its record: that worker reads the inbox once more after
    it has deleted its record and released the lock.
    """
    home = Home(home_path)
    forget_git()
    os.setsid()
    while inbox.pending(home.inbox):
        lock = try_lock(os.path.join(home.locks, "worker.lock"))
        if lock is None:
            return
        try:
            announce(home.worker)
            import site

            site.main()  # catch up on what -S omitted
            from provisioner.daemon.worker import work_through

            work_through(home)
        finally:
            withdraw(home.worker)
            os.close(lock)
