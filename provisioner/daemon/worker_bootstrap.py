"""The worker that a local hook starts where no daemon runs: it acts on the inbox, one of it at a time.

Twenty git commands at once start it once or a few times: it says that it is at work, so that later hooks need not start
another, and all but one leave before they have imported what takes ten times as long as the rest.
"""

from __future__ import annotations

import os

from provisioner.system import inbox
from provisioner.system.file_lock import try_lock
from provisioner.system.home import Home
from provisioner.system.pidfile import announce, withdraw


def drain(home_path: str) -> None:
    """Act on every wake-up in the inbox, then on what falls due soon; leave as soon as a daemon or nobody needs it.

    Who finds another at work leaves, as do hooks that read of it: that one looks into the inbox once more after it has
    said that it goes and let go.
    """
    home = Home(home_path)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]  # they speak of the repository that the hook runs in
    os.setsid()
    while inbox.pending(home.inbox):
        lock = try_lock(os.path.join(home.locks, "worker.lock"))
        if lock is None:
            return
        try:
            announce(home.worker)
            import site

            site.main()  # catch up on what -S left out
            from provisioner.daemon.worker import work_through

            work_through(home)
        finally:
            withdraw(home.worker)
            os.close(lock)
