"""The connections of a process to a PostgreSQL server: few, though it may have thousands of databases there.

A connection leads to one database permanently. So an idle one stays for the next call to the same database, and at the
limit the one that was used longest ago makes room. Each server has its own pool: one that stops answering
does not delay calls to the others.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from provisioner.kv.errors import Busy
from provisioner.kv.stores.postgres import errors
from provisioner.kv.stores.postgres.connection import PooledConnection, shown
from provisioner.kv.stores.postgres.pool_limits import POOL, PoolLimits

KEPT_PART: Final = 2  # at most one connection in this many listens
_LEAVING: Final = 0.02  # seconds


class ConnectionPool:
    """At most as many as `pool` says."""

    def __init__(self, pool: PoolLimits = POOL) -> None:
        self._pool = pool
        self._changed = threading.Condition()
        self._idle: list[tuple[str, PooledConnection]] = []  # the one that was used longest ago first
        self._open: Counter[str] = Counter()  # and those that are being opened
        self._kept = 0
        self._lent: dict[PooledConnection, str] = {}

    @property
    def count(self) -> int:
        return self._open.total() + self._kept

    @contextmanager
    def lent(self, conninfo: str, until: float) -> Iterator[PooledConnection]:
        """One for the caller alone. What it leaves in a transaction, or broken, is closed.

        Raises Busy where none is free `until` then, by time.monotonic(), and psycopg.Error where none can be made.
        """
        line = self._taken(conninfo, until)
        try:
            if line is None:
                line = self._made(conninfo)
            self._lend(conninfo, line, until)
            yield line
        finally:
            self._give_back(conninfo, line)

    @contextmanager
    def ready(self, conninfo: str, until: float) -> Iterator[PooledConnection | None]:
        """As `lent`, but None if no connection is idle: it never waits."""
        with self._changed:
            line = self._idle_one(conninfo)
        if line is None:
            yield None
            return
        try:
            self._lend(conninfo, line, until)
            yield line
        finally:
            self._give_back(conninfo, line)

    @contextmanager
    def kept(self, conninfo: str) -> Iterator[PooledConnection | None]:
        """One for as long as the caller likes; None if others would starve because too many of those exist."""
        with self._changed:
            allowed = self._kept < self._pool.most // KEPT_PART
            evicted = self._room() if allowed else None
            allowed = allowed and self.count < self._pool.most
            self._kept += allowed
        _close(evicted)
        if not allowed:
            yield None
            return
        try:
            with PooledConnection.to(conninfo) as line:
                yield line
        finally:
            with self._changed:
                self._kept -= 1
                self._changed.notify_all()

    def forget(self, conninfo: str) -> None:
        """Close the idle ones to this database."""
        with self._changed:
            found = [entry for entry in self._idle if entry[0] == conninfo]
            for entry in found:
                self._idle.remove(entry)
                self._less(conninfo)
            self._changed.notify_all()
        for _, line in found:
            line.close()

    def end(self, conninfo: str) -> None:
        """End the waits for this database."""
        with self._changed:
            for line in [line for line, place in self._lent.items() if place == conninfo]:
                line.until = 0.0

    def _lend(self, conninfo: str, line: PooledConnection, until: float) -> None:
        with self._changed:
            line.until = until
            self._lent[line] = conninfo

    def _made(self, conninfo: str) -> PooledConnection:
        """A new one. A server that has none to spare gets back what is idle here. Raises psycopg.Error."""
        while True:
            try:
                return PooledConnection.to(conninfo)
            except psycopg.Error as error:
                if not errors.is_full(error):
                    raise
                with self._changed:
                    oldest = self._oldest()
                if oldest is None:
                    raise
            oldest.close()
            time.sleep(_LEAVING)  # until the server has noticed

    def _taken(self, conninfo: str, until: float) -> PooledConnection | None:
        """One that is idle; None where the caller may open one."""
        evicted = None
        with self._changed:
            while True:
                if (line := self._idle_one(conninfo)) is not None:
                    return line
                if self._open[conninfo] < self._pool.each:
                    evicted = self._room()
                    if self.count < self._pool.most:
                        self._open[conninfo] += 1
                        break
                if not self._changed.wait(until - time.monotonic()):
                    raise Busy(
                        f"{shown(conninfo)}: all {self.count} connections of this process were in use for too long"
                    )
        _close(evicted)
        return None

    def _idle_one(self, conninfo: str) -> PooledConnection | None:
        for at in range(len(self._idle) - 1, -1, -1):
            if self._idle[at][0] == conninfo:
                return self._idle.pop(at)[1]
        return None

    def _room(self) -> PooledConnection | None:
        """Take out the one used longest ago, where no more may be open."""
        return None if self.count < self._pool.most else self._oldest()

    def _oldest(self) -> PooledConnection | None:
        if not self._idle:
            return None
        place, line = self._idle.pop(0)
        self._less(place)
        return line

    def _less(self, conninfo: str) -> None:
        self._open[conninfo] -= 1
        if not self._open[conninfo]:
            del self._open[conninfo]

    def _give_back(self, conninfo: str, line: PooledConnection | None) -> None:
        usable = line is not None and line.usable
        with self._changed:
            if line is not None:
                self._lent.pop(line, None)
            if line is not None and usable:
                self._idle.append((conninfo, line))
            else:
                self._less(conninfo)
            self._changed.notify_all()
        if not usable:
            _close(line)


_WHERE: Final = ("host", "hostaddr", "port", "service")
_of_servers: Final[defaultdict[tuple[object, ...], ConnectionPool]] = defaultdict(ConnectionPool)
_making: Final = threading.Lock()


def lines_to(conninfo: str) -> ConnectionPool:
    """Those of this process to the server, or servers, that a connection string names."""
    said = conninfo_to_dict(conninfo)
    with _making:
        return _of_servers[tuple(said.get(word) for word in _WHERE)]


def _close(line: PooledConnection | None) -> None:
    if line is not None:
        line.close()
