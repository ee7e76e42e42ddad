"""The processes that supervise commands, from their start until they get an order.

A supervisor is a Python program, which takes tens of milliseconds to start. A daemon keeps spare ones, so that a push, or a
request for an app that sleeps, does not wait for that.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from provisioner.core.errors import StorageFailed
from provisioner.runs.run_mark import BLANK, RUN

_SUPERVISE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "supervisor.py")


def supervisor_of(run_id: str) -> subprocess.Popen[bytes]:
    """A new supervisor, which waits for its order. Raises StorageFailed."""
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", _SUPERVISE],
            env={RUN: run_id},  # variables of the command or the daemon are not in the supervisor's environment
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise StorageFailed(f"cannot start a process: {error.strerror}") from error


class SpareSupervisors:
    """Supervisors that wait for any order: `most`, one for the build of a revision and one for its start. The methods may be
    called from any thread."""

    def __init__(self, most: int = 2) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._spare: list[subprocess.Popen[bytes]] = []
        self._closed = False

    def take(self) -> subprocess.Popen[bytes] | None:
        """One of them, which is the caller's from now on; None if there is none."""
        while True:
            with self._lock:
                if not self._spare:
                    return None
                taken = self._spare.pop(0)
            if taken.poll() is None:
                return taken
            _end(taken)  # it was killed

    def prepare(self) -> None:
        """Have `most` of them. Raises StorageFailed."""
        with self._lock:
            while len(self._spare) < self._most and not self._closed:
                self._spare.append(supervisor_of(BLANK))

    def close(self) -> None:
        """End them, permanently."""
        with self._lock:
            left, self._spare, self._closed = self._spare, [], True
        for each in left:
            _end(each)


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """End a supervisor that has no order: it ends when its input does."""
    for pipe in (supervisor.stdin, supervisor.stdout):
        if pipe is not None:
            pipe.close()
    supervisor.wait()
