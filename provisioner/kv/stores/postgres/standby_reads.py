"""Reads that may be a little old, asked of a standby: one of the hosts that a connection string names.

Their age is known, without clocks that agree. Such a read makes the store ask the primary, about once a second and
beside the reads, how far its log goes. A standby that has come as far shows everything that was acknowledged before that
query. If none has come far enough, or none is there, or it is slow, the primary answers.

No read waits until a standby is found: another thread does that, and until then the primary answers.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from provisioner.kv.errors import Busy
from provisioner.kv.model import ReadRange
from provisioner.kv.stores.postgres import statements
from provisioner.kv.stores.postgres.connection import Row
from provisioner.kv.stores.postgres.pool import ConnectionPool

BOUND: Final = 5.0  # seconds: what was acknowledged longer ago than that is seen
ANSWER: Final = 1.0  # seconds that a standby has
REFUSED: Final = 5.0  # seconds without an attempt after one has failed
BEHIND: Final = 1.0  # the same after one was too far behind
_EVERY: Final = 1.0  # seconds between two questions to the primary
_CONNECTING: Final = "2"  # seconds
_SEARCHES: Final = threading.BoundedSemaphore(4)  # of a process, at a time

# Its history matters, too: a standby that continues that of an abandoned primary shows data that no longer exists.
_HISTORY: Final = "(select wal_timeline from deno_kv.state)"
_ENDS: Final = f"select (pg_current_wal_flush_lsn() - '0/0')::bigint, {_HISTORY}"
_REACHES: Final = f"select pg_is_in_recovery(), (pg_last_wal_replay_lsn() - '0/0')::bigint, {_HISTORY}"


class _Mark(NamedTuple):
    """Before `asked_at`, by time.monotonic(), nothing was acknowledged that is behind this position of the log."""

    asked_at: float
    position: int
    history: str


class StandbyReader:
    """The standby reads of one store. `primary` is the connection string by which the store itself connects."""

    def __init__(self, lines: ConnectionPool, primary: str) -> None:
        self._lines = lines
        self._primary = primary
        self._conninfo = _to_standbys(primary)
        self._marks: deque[_Mark] = deque(maxlen=int(2 * BOUND / _EVERY))
        self._next_mark = 0.0
        self._refused_until = 0.0
        self._busy = threading.Lock()  # with a search
        self._closed = False

    def rows(self, ranges: Sequence[ReadRange]) -> list[list[Row]] | None:
        """The rows of each range, of one moment at most BOUND ago; None: ask the primary. Never waits longer than ANSWER."""
        now = time.monotonic()
        if self._conninfo is None or now < self._refused_until:
            return None
        known = bool(self._marks) and self._marks[-1].asked_at > now - BOUND
        if now >= self._next_mark:
            self._begin(connect=not known)
        if not known:
            return None
        with self._lines.ready(self._conninfo, now + ANSWER) as line:
            if line is not None:
                try:
                    ((answers, position, history),), found = line.ask_all((_REACHES, ()), statements.reading(ranges))
                except psycopg.Error:
                    self._refused_until = time.monotonic() + REFUSED
                    self.rest()
                    return None
                if not answers:  # it was promoted
                    line.close()
                    return None
        if line is None:
            self._begin(connect=True)
            return None
        if not self._reaches(position, history):
            self._refused_until = time.monotonic() + BEHIND
            return None
        return statements.read(ranges, found)

    def rest(self) -> None:
        """Give connections back."""
        if self._conninfo is not None:
            self._lines.forget(self._conninfo)

    def close(self) -> None:
        self._closed = True
        self.rest()

    def _reaches(self, position: int, history: str) -> bool:
        oldest = time.monotonic() - BOUND
        return any(
            mark.asked_at > oldest and mark.position <= position and mark.history == history
            for mark in tuple(self._marks)
        )

    def _begin(self, *, connect: bool) -> None:
        """Ask the primary again, and find a standby, unless that is in progress or too many do it."""
        if not self._busy.acquire(blocking=False):
            return
        if not _SEARCHES.acquire(blocking=False):
            self._busy.release()
            return
        try:
            threading.Thread(target=self._run, args=(connect,), name="kv standby", daemon=True).start()
        except RuntimeError:  # the system has no thread to spare: the primary answers until then
            self._over()

    def _run(self, connect: bool) -> None:
        try:
            now = time.monotonic()
            if now >= self._next_mark:
                with suppress(psycopg.Error, Busy):
                    self._ask_the_primary(now)
            if connect and not self._closed:
                self._find()
        finally:
            self._over()
            if self._closed:
                self.rest()

    def _over(self) -> None:
        _SEARCHES.release()
        self._busy.release()

    def _ask_the_primary(self, now: float) -> None:
        self._next_mark = now + _EVERY
        with self._lines.lent(self._primary, now + BOUND) as line:
            asked_at = time.monotonic()
            ((position, history),) = line.ask(_ENDS)
        self._marks.append(_Mark(asked_at, position, history))

    def _find(self) -> None:
        """One connection more, if none is idle."""
        assert self._conninfo is not None  # noqa: S101
        try:
            with self._lines.lent(self._conninfo, time.monotonic() + BOUND):
                return
        except psycopg.Error:
            self._refused_until = time.monotonic() + REFUSED
        except Busy:
            return


def _to_standbys(primary: str) -> str | None:
    """The connection string that leads to a standby only, the hosts in any order; None where it names one host."""
    said = {name: str(value) for name, value in conninfo_to_dict(primary).items() if value is not None}
    lists = {name: said[name].split(",") for name in ("host", "hostaddr", "port") if name in said}
    count = max((len(lists.get(name, ())) for name in ("host", "hostaddr")), default=0)
    if count < 2:
        return None
    order = random.sample(range(count), count)
    shuffled: dict[str, str] = {
        name: ",".join(each[at] for at in order) if len(each) == count else said[name] for name, each in lists.items()
    }
    found: dict[str, str] = {**said, **shuffled, "target_session_attrs": "standby", "connect_timeout": _CONNECTING}
    return make_conninfo("", **found)
