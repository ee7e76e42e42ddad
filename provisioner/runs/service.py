"""A command of the user's that runs until it is ended: an app. It ends, with all that it has started, when this process does."""

from __future__ import annotations

import select
from contextlib import suppress

from provisioner.runs.process import STOPPED, Command, begin_log, end_survivors, order_of, what_went_wrong
from provisioner.runs.supervisors import SpareSupervisors, supervisor_of

KILL_SECONDS = 5.0  # for the supervisor to say how it ended


class Service:
    """A command that has been started. Its log, which has no end, is at the path `log`."""

    def __init__(self, run_id: str, command: Command, log: str, spare: SpareSupervisors | None = None) -> None:
        """Start it, with the `spare` supervisor if there is one. Raises StorageFailed."""
        self._run_id = run_id
        self._order = order_of(run_id, command, log, rotated=True)
        begin_log(command, log)
        self._supervisor = (spare and spare.take()) or supervisor_of(run_id)
        self._ended: str | None = None
        self._say(self._order.line())

    @property
    def pid(self) -> int:
        """Its supervisor, of which all of its processes descend."""
        return self._supervisor.pid

    def ended(self, wait: float = 0.0) -> str | None:
        """A sentence about how it ended, if it has, or does within `wait` seconds, even if it ended well."""
        if self._ended is None:
            assert self._supervisor.stdout is not None  # noqa: S101
            if not select.select([self._supervisor.stdout], [], [], wait)[0]:
                return None
            said = self._supervisor.stdout.read().decode("utf-8", "replace").strip()
            self._close()
            if said:
                self._ended = what_went_wrong(said, self._order) or "it ended"
            else:
                end_survivors(self._run_id)
                self._ended = "what supervises it was killed"
        return self._ended

    def ask_to_end(self, seconds: float) -> None:
        """Ask it to end; what has not ended by then is ended."""
        self._say(f"end {seconds}\n".encode())

    def stop(self, seconds: float = 0.0) -> str:
        """End it within `seconds`. Returns how it ended."""
        if self._ended is None:
            if seconds:
                self.ask_to_end(seconds)
                self.ended(seconds + KILL_SECONDS)
            if self._ended is None:
                with suppress(OSError):
                    assert self._supervisor.stdin is not None  # noqa: S101
                    self._supervisor.stdin.close()
                self.ended(KILL_SECONDS)
            if self._ended is None:
                self._supervisor.kill()
                self.ended(KILL_SECONDS)
        return self._ended or STOPPED

    def _say(self, words: bytes) -> None:
        assert self._supervisor.stdin is not None  # noqa: S101
        with suppress(OSError, ValueError):  # it has ended, which the end of its output says
            self._supervisor.stdin.write(words)
            self._supervisor.stdin.flush()

    def _close(self) -> None:
        for pipe in (self._supervisor.stdin, self._supervisor.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._supervisor.wait()
