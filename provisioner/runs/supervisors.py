"""The processes that supervise commands, from their start until they get an order.

A supervisor is a Python program, which takes tens of milliseconds to start. A daemon keeps a spare one, so that a request for
an app that sleeps does not wait for that.
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


class SpareSupervisor:
    """One supervisor that waits for any order. Its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: subprocess.Popen[bytes] | None = None
        self._closed = False

    def take(self) -> subprocess.Popen[bytes] | None:
        """The spare one, which is the caller's from now on; None if there is none."""
        with self._lock:
            taken, self._spare = self._spare, None
        if taken is not None and taken.poll() is not None:  # it was killed
            _end(taken)
            return None
        return taken

    def prepare(self) -> None:
        """Have a spare one, if there is none. Raises StorageFailed."""
        with self._lock:
            if self._spare is None and not self._closed:
                self._spare = supervisor_of(BLANK)

    def close(self) -> None:
        """End it, permanently."""
        with self._lock:
            left, self._spare, self._closed = self._spare, None, True
        if left is not None:
            _end(left)


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """End a supervisor that has no order: it ends when its input does."""
    for pipe in (supervisor.stdin, supervisor.stdout):
        if pipe is not None:
            pipe.close()
    supervisor.wait()
