"""The file: connections that wait for other processes, the tables that Deno's migrations make, and who has it open."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal, NamedTuple

import apsw

from provisioner.kv.errors import Busy, Closed, KvError, StoreFailed
from provisioner.kv.stores.sqlite import last_write, open_files, schema
from provisioner.kv.stores.sqlite.connection import connect
from provisioner.kv.stores.sqlite.errors import refused
from provisioner.kv.stores.sqlite.file_names import names
from provisioner.kv.stores.sqlite.wal_watch import PATIENCE, WalWatcher

Synchronous = Literal["full", "normal"]

BUSY_SECONDS: Final = 60.0  # how long to wait for other processes before it is Busy
# Between tries for the write lock. Shorter waits take more commits a second, and starve Deno, which waits up to 100 ms.
SHORTEST_WAIT: Final = 0.0005
LONGEST_WAIT: Final = 0.005
# Without another write to the log for so long, hearing of other processes looks whether one still has the write lock.
QUIET: Final = 0.03

# SQLite allots twenty pages at once when an empty cache that may hold more than two gets its first.
_ONE_BY_ONE: Final = "pragma cache_size = 2; pragma shrink_memory; select 1 from sqlite_master limit 1"


class Opening(NamedTuple):
    """How a file is opened. `cache_kib`: of each connection.

    `lean` is for one of many in a process: it reads with the connection that writes while that is free, which takes
    three descriptors instead of five and half of the memory. Not for the main thread: a signal that interrupts it at the
    wrong instant would block all writes.
    """

    synchronous: Synchronous = "full"
    must_exist: bool = False
    lean: bool = False
    cache_kib: int = 2000

    @property
    def flags(self) -> int:
        return int(apsw.SQLITE_OPEN_READWRITE | (0 if self.must_exist else apsw.SQLITE_OPEN_CREATE))


class File:
    """What one store has open: a connection that writes, and those that read while it or others are in use.

    `others` is called, from any thread, when other processes may have committed; only after `hear` was called.
    """

    def __init__(self, path: str, opening: Opening, others: Callable[[], None]) -> None:
        self.path = path
        self._opening = opening
        self._lean = opening.lean
        self._others = others
        self.closed = False
        self._idle: list[apsw.Connection] = []
        self._watcher: WalWatcher | None = None
        self._seen = 0
        self._writing = threading.Lock()
        self._patience = _Patience()
        with open_files.opening() as hold:  # which others wait for, so nothing in it waits
            before = open_files.identity(path)
            self._writer = self._opened()
            self._file = before or open_files.identity(path)
            if self._file is not None:
                hold(self._file)
        try:
            self._set_up(self._writer, self._patience)
            self.read_only = bool(self._writer.readonly("main"))
            if not self.read_only:
                _prepare(self._writer)
        except apsw.Error as error:
            self._let_go()
            raise self.failure(error) from error

    def reader(self) -> apsw.Connection:
        """A connection for the caller alone, until `release`."""
        if self.closed:
            raise Closed("the database is closed")
        if self._idle:
            try:
                return self._idle.pop()
            except IndexError:  # another thread was faster
                pass
        if self._lean and self._writing.acquire(False):
            if not self.closed:
                return self._writer
            self._writing.release()
        return self.another()

    def another(self) -> apsw.Connection:
        """A new connection, whatever else is free. The caller releases it, or closes it."""
        connection = self._opened()
        try:
            self._set_up(connection, _Patience())
        except apsw.Error as error:
            connection.close()
            raise self.failure(error) from error
        if self.moved():
            connection.close()
            raise StoreFailed(f"{self.path} is no longer the file that was opened")
        return connection

    def release(self, connection: apsw.Connection) -> None:
        if connection is self._writer:
            self._writing.release()
            return
        self._idle.append(connection)
        if self.closed:
            self._close_idle()

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """The writing connection inside of a transaction that holds the write lock, and is durable at the end."""
        heard = False
        try:
            with self._writing:
                if self.closed:
                    raise Closed("the database is closed")
                try:
                    with _transaction(self._writer):
                        heard = self._heard()
                        yield self._writer
                except apsw.Error as error:
                    raise self.failure(error) from error
                finally:
                    self._seen = self._writer.data_version()
        finally:
            if heard:
                self._others()

    def hear(self) -> None:
        """From now on, tell of commits by other processes."""
        with self._writing:
            if self._watcher is not None or self.closed:
                return
            try:
                self._writer.execute("select 1 from data_version").fetchall()  # opens the log, to be watched
            except apsw.Error as error:
                raise self.failure(error) from error
            self._seen = self._writer.data_version()
            self._watcher = WalWatcher(names(self._writer).log, self._look)

    def rest(self) -> None:
        """Keep only what opening again would have to make: one connection without its cache."""
        self._close_idle()
        if not self._writing.acquire(blocking=False):
            return
        try:
            if not self.closed:
                self._writer.execute("pragma shrink_memory")
        finally:
            self._writing.release()

    def moved(self) -> bool:
        """Is the file at the path another one than is open here, or none?"""
        return open_files.identity(self.path) != self._file

    def close(self) -> bool:
        """Waits for the transaction that is under way. Whether it was open."""
        with self._writing:
            if self.closed:
                return False
            self.closed = True
        if self._watcher is not None:
            self._watcher.close()
        self._close_idle()
        self._let_go()
        return True

    def _let_go(self) -> None:
        with last_write.kept(names(self._writer).file):
            self._writer.close()
        if self._file is not None:
            open_files.let_go(self._file)

    def failure(self, error: apsw.Error) -> KvError:
        """The same in our words."""
        if self.closed and isinstance(error, (apsw.ConnectionClosedError, apsw.ThreadingViolationError)):
            return Closed("the database is closed")
        if isinstance(error, apsw.BusyError):
            return Busy(f"{self.path}: another process held the database for {BUSY_SECONDS:.0f} seconds")
        return refused(self.path, error)

    def _heard(self) -> bool:
        """Whether others committed since the writing connection was last looked at; it has to have looked itself."""
        return self._watcher is not None and bool(self._writer.data_version() != self._seen)

    def _look(self, quiet: float) -> bool:
        """Ask for commits of others, `quiet` seconds after the last write; True: none is on the way.

        While this store writes, its own transaction sees what others did before it.
        """
        if not self._writing.acquire(blocking=False):
            return self.closed
        heard, settled = False, True
        try:
            if not self.closed:
                settled = self._ask(quiet)
                heard = self._heard()
                self._seen = self._writer.data_version()
        finally:
            self._writing.release()
        if heard:
            self._others()
        return settled

    def _ask(self, quiet: float) -> bool:
        """With the write lock, it is certain that no commit is in progress."""
        self._patience.refuses = True
        try:
            if self.read_only or quiet < QUIET:
                self._writer.execute("pragma data_version").fetchall()
                return self.read_only and quiet > PATIENCE
            self._writer.execute("begin immediate")
            self._writer.execute("rollback")
        except apsw.Error:  # a write is in progress; or the disk fails, which reads will report
            return quiet > PATIENCE
        else:
            return True
        finally:
            self._patience.refuses = False

    def _opened(self) -> apsw.Connection:
        """A connection that has not read anything yet."""
        try:
            return connect(self.path, self._opening.flags, statements=40)
        except apsw.Error as error:
            raise self.failure(error) from error

    def _set_up(self, connection: apsw.Connection, patience: _Patience) -> None:
        """Raises apsw.Error."""
        connection.set_busy_handler(patience)
        connection.execute(f"pragma synchronous = {self._opening.synchronous}")
        if self._opening.lean:
            connection.execute(_ONE_BY_ONE)
        connection.execute(f"pragma cache_size = -{self._opening.cache_kib}")

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()


def _prepare(connection: apsw.Connection) -> None:
    """Make the tables that are missing. Raises apsw.Error."""
    if connection.execute("pragma journal_mode").fetchall() != [("wal",)]:
        _into_wal(connection)
    if _migrated(connection) < schema.VERSION:
        with _transaction(connection):
            for statement in schema.missing(_migrated(connection)):
                connection.execute(statement)


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    """Holds the write lock from the start; durable at the end. Raises apsw.Error."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def number(rows: list[Any]) -> int:
    """The one number that was asked for; 0 if there is no row."""
    return rows[0][0] if rows else 0


def _into_wal(connection: apsw.Connection) -> None:
    """SQLite itself does not wait here for another process that does the same to a new file."""
    patience = _Patience()
    tries = 0
    while True:
        try:
            connection.execute("pragma journal_mode = wal").fetchall()
        except apsw.BusyError:
            if not patience(tries):
                raise
            tries += 1
        else:
            return


def _migrated(connection: apsw.Connection) -> int:
    """How many of Deno's migrations the file has; -1: none was ever made."""
    if not connection.execute("select 1 from sqlite_master where name = 'migration_state'").fetchall():
        return -1
    return number(connection.execute("select version from migration_state where k = 0").fetchall())


class _Patience:
    """Waits for other processes: a little at a time, by chance, so that none is always the last."""

    __slots__ = ("_since", "refuses")

    def __init__(self) -> None:
        self._since = 0.0
        self.refuses = False

    def __call__(self, tries: int) -> bool:
        now = time.monotonic()
        if tries == 0:
            self._since = now
        if self.refuses or now - self._since > BUSY_SECONDS:
            return False
        time.sleep(random.uniform(SHORTEST_WAIT, min(LONGEST_WAIT, SHORTEST_WAIT * (tries + 2))))  # noqa: S311
        return True
