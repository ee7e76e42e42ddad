"""An open registry as rows and transactions: what its tables have in common."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from provisioner.core.clock import now_ms
from provisioner.core.errors import NotResolved, StorageFailed
from provisioner.registry.errors import refusal, replaced
from provisioner.registry.home.disk_reserve import Reserve
from provisioner.registry.home.follower_guard import must_lead
from provisioner.registry.schema import migrations
from provisioner.registry.schema.readiness import announce
from provisioner.system import failpoints, in_place
from provisioner.system.home import FILE_MODE, Home
from provisioner.system.home_guard import must_be_home, must_be_the_home_of
from provisioner.system.looking import may_change

BUSY_SECONDS = 10.0


class Tables:
    """An open registry. Use as a context manager; one per thread.

    `who` is what the audit log has as the cause of what is asked for through it.
    """

    def __init__(self, home: Home, connection: sqlite3.Connection, who: str, *, adopting: bool = False) -> None:
        self.home = home
        self.who = who
        self._db = connection
        self._adopting = adopting
        self._reserve = Reserve(home)
        self._recorded: tuple[int, str] | None = None
        self._file = _file_of(home)

    @classmethod
    def open(
        cls,
        home: Home,
        *,
        create: bool = False,
        busy_seconds: float = BUSY_SECONDS,
        who: str = "user",
    ) -> Self:
        """Open the home's registry, made with its directories where `create`; otherwise its absence is an error.

        Where another process has it locked, each question waits for `busy_seconds`. If nothing may be changed (`looking`), it
        is opened for reading, and an older one is brought up to date in memory only. Raises WrongHome if the directory is
        not the home that it claims to be.
        """
        looking = not may_change()
        must_be_home(home)
        registry = cls(home, cls._connected(home, create=create, busy_seconds=busy_seconds, looking=looking), who)
        try:
            identity = must_be_home(home)
            # an older home gets its identity with the first command that changes it
            if identity is not None or not looking:
                must_be_the_home_of(registry.home_id(), home, identity)
        except BaseException:
            registry.close()
            raise
        return registry

    @classmethod
    def of_another(cls, home: Home, *, who: str = "user") -> Self:
        """The registry of a home that is to be adopted, without a check of the home's identity."""
        return cls(home, cls._connected(home, create=False, busy_seconds=BUSY_SECONDS), who, adopting=True)

    @staticmethod
    def _connected(home: Home, *, create: bool, busy_seconds: float, looking: bool = False) -> sqlite3.Connection:
        if not home.has_registry():
            if create:
                must_lead(home)
            else:
                raise NotResolved(
                    f"no registry in {home.path}",
                    "Run 'provisioner init' in a repository, or set PROVISIONER_HOME",
                )
            try:
                home.create()
                os.close(os.open(home.registry, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
            except OSError as error:
                raise refusal(home, error) from error
        _must_be_ours_alone(home)
        if looking:
            return to_look_at(home, busy_seconds)
        reserve = Reserve(home)
        reserve.make_room()
        try:
            in_place.make(f"{home.registry}-shm", FILE_MODE)
            connection = sqlite3.connect(home.registry, timeout=busy_seconds, isolation_level=None)
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")  # what is called connected is on disk
            connection.execute("pragma foreign_keys = on")
            migrations.bring_up_to_date(home, connection)
        except (sqlite3.Error, UnicodeError, OSError) as error:
            raise refusal(home, error) from error
        reserve.keep()
        return connection

    def close(self) -> None:
        self._db.close()

    def home_id(self) -> str:
        """The id of the home that this is the registry of, which is its organization's."""
        rows = self.rows("select id from organization")
        return str(rows[0][0]) if rows else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def change(self, *, synced: bool = True) -> Iterator[None]:
        """One transaction: all of the block's writes, or none. Nested blocks join the outer one.

        Without `synced` it survives the process, but only the next synced one makes it survive a power cut.
        """
        if self._db.in_transaction:
            yield
            return
        if not self._adopting:
            must_lead(self.home)
        if _file_of(self.home) != self._file:
            raise replaced(self.home)
        if not synced:
            self._db.execute("pragma synchronous = normal")
            try:
                with self.change():
                    yield
            finally:
                self._db.execute("pragma synchronous = full")
            return
        spent = self._reserve.make_room()
        try:
            self._db.execute("begin immediate")
            self._recorded = None
            try:
                yield
                announce(self._db, *(self._recorded or (now_ms(), self.who)))
                failpoints.point("registry.committing")
                self._commit()
            except BaseException:
                self._db.rollback()
                raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise refusal(self.home, error) from error
        failpoints.point("registry.committed")
        if spent:
            self._reserve.keep()  # before the work in between takes it

    def _commit(self) -> None:
        try:
            self._db.commit()
        except sqlite3.OperationalError as error:
            full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
            # SQLite may have rolled back automatically: then a second commit would do nothing and report success
            if not full or not self._db.in_transaction or not self._reserve.spend():
                raise
            self._db.commit()

    def data_version(self) -> int:
        """A number that changes whenever another process has changed the registry."""
        return int(str(self.rows("pragma data_version")[0][0]))

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except UnicodeEncodeError:  # a text that is not UTF-8 is in no row
            return self.rows(query, *(printable(each) if isinstance(each, str) else each for each in values))
        except (sqlite3.Error, UnicodeError) as error:
            raise refusal(self.home, error) from error

    def named(self, query: str, *values: object) -> list[sqlite3.Row]:
        """The same, each value of a row by the name of its column."""
        cursor = self._db.cursor()
        cursor.row_factory = sqlite3.Row
        try:
            return cursor.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeError) as error:
            raise refusal(self.home, error) from error

    def rows_named(self, query: str, values: dict[str, object]) -> list[tuple[Any, ...]]:
        """The same for values that the query has by names."""
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise refusal(self.home, error) from error

    def write(self, query: str, *values: object) -> None:
        with self.change():
            self._db.execute(query, values)

    def write_all(self, query: str, values: Iterable[Sequence[object]]) -> None:
        with self.change():
            self._db.executemany(query, values)


def to_look_at(home: Home, busy_seconds: float) -> sqlite3.Connection:
    Reserve(home).make_room()  # to read, too: SQLite makes a log's index
    try:
        in_place.make(f"{home.registry}-shm", FILE_MODE)
        connection = sqlite3.connect(home.registry, timeout=busy_seconds, isolation_level=None)
        connection.execute("pragma query_only = on")
        connection = migrations.as_up_to_date(home, connection)
        connection.execute("pragma query_only = on")
    except (sqlite3.Error, UnicodeError, OSError) as error:
        raise refusal(home, error) from error
    return connection


def _file_of(home: Home) -> tuple[int, int] | None:
    """Which file the home's registry is; None if it is gone."""
    try:
        found = os.stat(home.registry)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refusal(home, error) from error
    return found.st_dev, found.st_ino


def _must_be_ours_alone(home: Home) -> None:
    """If everyone may write there, another user may have put a registry there that leads to other databases."""
    if os.stat(home.path).st_mode & 0o002:
        raise StorageFailed(f"{home.path} is writable by everyone", f"Run: chmod 700 {home.path}")


def printable(text: str | None) -> str | None:
    """SQLite keeps text as UTF-8, which has no place for the surrogates that stand for other bytes."""
    return None if text is None else os.fsencode(text).decode("utf-8", "backslashreplace")
