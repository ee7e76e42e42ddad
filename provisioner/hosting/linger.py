"""Ending a router that was left for the next daemon, if none comes in time. Run as a program by the daemon that ends.

A daemon takes the home's apps before it adopts the router. The router is ended under a lock that the next daemon waits for, so it
is either adopted or ended, and never ended after it was adopted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

if __name__ == "__main__":  # last: no module of this directory takes the place of one of Python's
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from provisioner.hosting.router.options import RouterOptions
from provisioner.hosting.router.process import RouterProcess
from provisioner.system.apps_lock import apps_run, ending_router
from provisioner.system.home import Home

_LOOK_SECONDS = 0.2


def leave_router(home: Home, seconds: float) -> None:
    """Let the router of a home run on without a daemon, for this long at most."""
    subprocess.Popen(
        [sys.executable, "-P", os.path.abspath(__file__), home.path, str(seconds)],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is not for it
    )


def linger(home: Home, seconds: float) -> None:
    """Wait for the next daemon, whose router it is then; without one, end the router."""
    router = RouterProcess(home, RouterOptions())
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        if not os.path.isdir(router.directory) or not router.runs() or apps_run(home):
            return
    with ending_router(home):
        if not apps_run(home):
            router.stop()


if __name__ == "__main__":
    linger(Home(sys.argv[1]), float(sys.argv[2]))
