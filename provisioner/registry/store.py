"""The registry: the only writer of rows. Every change and its audit event are one durable transaction."""

from __future__ import annotations

import errno
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from provisioner.config import FILE_MODE, Home
from provisioner.errors import ProvisionerError, StorageFailed
from provisioner.model import App, Database, Hold, Instance, Intent, Organization, Status, Timeline
from provisioner.registry import schema

BUSY_SECONDS = 10.0
RESERVE_BYTES = 256 * 1024
OPEN_INODES = 2  # -wal and -shm
SPARE_BYTES = 16 * 1024  # for the directory and the file system's own

_TIMELINE = "id, app_id, branch, production, revision, created_at, gone_at, rename_mark"
_DATABASE = (
    "id, timeline_id, instance_id, name, status, intent, error, attempts, retry_at, hold, created_at, connected_at,"
    " archived_at, purge_at"
)
_INSTANCE = "id, slug, engine, location, created_at"
_APP = "id, slug, git_dir, production, grace_ms, retention_ms, created_at"


def _database(row: tuple[object, ...]) -> Database:
    values = list(row)
    values[4] = Status(str(row[4]))
    values[5] = Intent(str(row[5])) if row[5] else None
    values[9] = Hold(str(row[9])) if row[9] else None
    return Database(*values)  # type: ignore[arg-type]


def _qualified(columns: str, table: str) -> str:
    return ", ".join(f"{table}.{column.strip()}" for column in columns.split(","))


class Registry:
    """An open registry. Use as a context manager; one per thread."""

    def __init__(self, home: Home, connection: sqlite3.Connection) -> None:
        self.home = home
        self._db = connection

    @classmethod
    def open(cls, home: Home, *, create: bool = False) -> Registry:
        """Open the home's registry, made with its directories where `create`; otherwise its absence is an error."""
        if not os.path.exists(home.registry):
            if not create:
                raise StorageFailed(
                    f"there is no registry in {home.path}",
                    "Run 'provisioner init' in a repository, or set PROVISIONER_HOME",
                )
            try:
                home.create()
                os.close(os.open(home.registry, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
            except OSError as error:
                raise _storage_failed(home, error) from error
        _make_room(home)
        try:
            connection = sqlite3.connect(home.registry, timeout=BUSY_SECONDS, isolation_level=None)
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")  # what is called connected is on disk
            connection.execute("pragma foreign_keys = on")
            schema.bring_up_to_date(home, connection)
        except sqlite3.Error as error:
            raise _storage_failed(home, error) from error
        registry = cls(home, connection)
        registry._keep_reserve()
        return registry

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Registry:
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
        if not synced:
            self._db.execute("pragma synchronous = normal")
            try:
                with self.change():
                    yield
            finally:
                self._db.execute("pragma synchronous = full")
            return
        spent = _make_room(self.home)
        try:
            self._db.execute("begin immediate")
            try:
                yield
                self._commit()
            except BaseException:
                self._db.rollback()
                raise
        except sqlite3.Error as error:
            raise _storage_failed(self.home, error) from error
        if spent:
            self._keep_reserve()  # before the work in between takes it

    def _commit(self) -> None:
        try:
            self._db.commit()
        except sqlite3.OperationalError as error:
            full = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
            # SQLite may have rolled back by itself: then a second commit would do nothing and call it done
            if not full or not self._db.in_transaction or not _spend_reserve(self.home):
                raise
            self._db.commit()

    def _keep_reserve(self) -> None:
        """Keep a little space (and an inode) back, so that a full disk can still be recorded as such."""
        size = min(RESERVE_BYTES, _free_bytes(self.home) - SPARE_BYTES)
        if size <= 0 or (os.path.exists(self.home.reserve) and os.path.getsize(self.home.reserve) >= size):
            return
        try:
            with open(self.home.reserve + ".new", "wb") as file:
                file.write(b"\0" * size)
            os.rename(self.home.reserve + ".new", self.home.reserve)
        except OSError:
            _spend_reserve(self.home)  # no room for it now; the next opening tries again

    def _rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise _storage_failed(self.home, error) from error

    def _write(self, query: str, *values: object) -> None:
        with self.change():
            self._db.execute(query, values)

    # organization, instances, apps, assignments

    def organization(self) -> Organization:
        rows = self._rows("select id, slug from organization")
        if not rows:
            with self.change():
                self._db.execute(
                    "insert into organization select ?, 'default' where not exists (select 1 from organization)",
                    (str(uuid.uuid4()),),
                )
            rows = self._rows("select id, slug from organization")
        return Organization(*rows[0])  # type: ignore[arg-type]

    def instances(self) -> list[Instance]:
        rows = self._rows(f"select {_INSTANCE} from instance where deleted_at is null order by created_at, slug")
        return [Instance(*row) for row in rows]  # type: ignore[arg-type]

    def instance_of(self, instance_id: str) -> Instance:
        """The instance with this id, deleted or not."""
        return Instance(*self._rows(f"select {_INSTANCE} from instance where id = ?", instance_id)[0])  # type: ignore[arg-type]

    def add_instance(self, instance: Instance) -> None:
        with self.change():
            self._write(f"insert into instance ({_INSTANCE}) values (?, ?, ?, ?, ?)", *_values(instance))
            self.record(instance.created_at, "instance.add", "user", detail=instance.slug)

    def apps(self) -> list[App]:
        rows = self._rows(f"select {_APP} from app where removed_at is null order by slug")
        return [App(*row) for row in rows]  # type: ignore[arg-type]

    def app(self, app_id: str) -> App | None:
        rows = self._rows(f"select {_APP} from app where id = ? and removed_at is null", app_id)
        return App(*rows[0]) if rows else None  # type: ignore[arg-type]

    def save_app(self, app: App, now: int) -> App:
        """Add an app, change it, or bring back one that was removed with the same repository (it keeps its id)."""
        with self.change():
            known = self._rows("select id from app where git_dir = ?", app.git_dir)
            app_id = str(known[0][0]) if known else app.id
            self._write(
                f"insert into app ({_APP}) values (?, ?, ?, ?, ?, ?, ?) on conflict (id) do update set"
                " slug = excluded.slug, git_dir = excluded.git_dir, production = excluded.production,"
                " grace_ms = excluded.grace_ms, retention_ms = excluded.retention_ms, removed_at = null",
                app_id,
                *_values(app)[1:],
            )
            # the production timeline is the one whose branch is the production branch: it keeps its data
            self._write("update timeline set branch = ? where app_id = ? and production", app.production, app_id)
            self.record(now, "app.set" if known else "app.add", "user", app_id=app_id, detail=app.slug)
        saved = self.app(app_id)
        assert saved is not None  # noqa: S101
        return saved

    def remove_app(self, app: App, now: int) -> None:
        with self.change():
            self._write("update app set removed_at = ? where id = ?", now, app.id)
            self.record(now, "app.remove", "user", app_id=app.id, detail=app.slug)

    def assigned(self, app_id: str) -> list[Instance]:
        """The app's instances, the first assigned first."""
        rows = self._rows(
            f"select {_qualified(_INSTANCE, 'instance')} from assignment join instance"
            " on instance.id = instance_id where app_id = ? and removed_at is null and deleted_at is null"
            " order by assignment.id",
            app_id,
        )
        return [Instance(*row) for row in rows]  # type: ignore[arg-type]

    def assignments(self) -> list[tuple[str, str]]:
        """Pairs of instance slug and app slug that are in force."""
        rows = self._rows(
            "select instance.slug, app.slug from assignment join instance on instance.id = instance_id"
            " join app on app.id = app_id where assignment.removed_at is null and app.removed_at is null"
            " and deleted_at is null order by assignment.id"
        )
        return [(str(a), str(b)) for a, b in rows]

    def assign(self, instance: Instance, app: App, now: int) -> None:
        with self.change():
            self._write(
                "insert into assignment (app_id, instance_id, created_at) values (?, ?, ?)"
                " on conflict (app_id, instance_id) do update set removed_at = null",
                app.id,
                instance.id,
                now,
            )
            self.record(now, "assign", "user", app_id=app.id, detail=instance.slug)

    def unassign(self, instance: Instance, app: App, now: int) -> None:
        with self.change():
            self._write(
                "update assignment set removed_at = ? where app_id = ? and instance_id = ?", now, app.id, instance.id
            )
            self.record(now, "unassign", "user", app_id=app.id, detail=instance.slug)

    # timelines and databases

    def timelines(self, app_id: str) -> list[Timeline]:
        rows = self._rows(f"select {_TIMELINE} from timeline where app_id = ?", app_id)
        return [Timeline(*row[:3], bool(row[3]), *row[4:]) for row in rows]  # type: ignore[arg-type, call-arg]

    def databases(self, app_id: str) -> list[Database]:
        """The app's databases that still have, or are to have, data."""
        rows = self._rows(
            f"select {_qualified(_DATABASE, 'database')} from database join timeline on timeline.id = timeline_id"
            " where app_id = ? and status <> 'purged' order by database.rowid",
            app_id,
        )
        return [_database(row) for row in rows]

    def live_databases(self) -> dict[str, int]:
        """How many live databases each instance has, by its id; only instances that have any."""
        rows = self._rows(
            "select instance_id, count(*) from database where status not in ('archived', 'purged') group by instance_id"
        )
        return {str(row[0]): int(str(row[1])) for row in rows}

    def save_timelines(self, timelines: Iterable[Timeline]) -> None:
        with self.change():
            self._db.executemany(
                f"insert into timeline ({_TIMELINE}) values (?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do update set"
                " branch = excluded.branch, revision = excluded.revision, gone_at = excluded.gone_at,"
                " rename_mark = excluded.rename_mark",
                [_values(timeline) for timeline in timelines],
            )

    def save_databases(self, databases: Iterable[Database]) -> None:
        with self.change():
            self._db.executemany(
                f"insert into database ({_DATABASE}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " on conflict (id) do update set timeline_id = excluded.timeline_id, name = excluded.name,"
                " status = excluded.status, intent = excluded.intent, error = excluded.error,"
                " attempts = excluded.attempts, retry_at = excluded.retry_at, hold = excluded.hold,"
                " connected_at = excluded.connected_at, archived_at = excluded.archived_at,"
                " purge_at = excluded.purge_at",
                [_values(database) for database in databases],
            )

    # the audit log

    def record(
        self,
        at: int,
        action: str,
        cause: str,
        *,
        app_id: str | None = None,
        timeline: str | None = None,
        database_id: str | None = None,
        detail: str = "",
    ) -> None:
        """Say in the audit log what was done, when (ms) and why."""
        self.record_all([(at, app_id, timeline, database_id, action, cause, detail)])

    def record_all(self, events: list[tuple[int, str | None, str | None, str | None, str, str, str]]) -> None:
        with self.change():
            self._db.executemany(
                "insert into event (at, app_id, timeline, database_id, action, cause, detail)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                [(*event[:2], _printable(event[2]), *event[3:6], _printable(event[6])) for event in events],
            )

    def events(self, database_id: str, most: int = 50) -> list[tuple[int, str, str, str]]:
        """What was done to a database, newest first: when (ms), action, cause, detail."""
        rows = self._rows(
            "select at, action, cause, detail from event where database_id = ? order by id desc limit ?",
            database_id,
            most,
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]  # type: ignore[misc]


def _make_room(home: Home) -> bool:
    """Give up the reserve before a transaction that could fill the disk: a commit that fails cannot be had again."""
    return _free_bytes(home) < RESERVE_BYTES and _spend_reserve(home)


def _free_bytes(home: Home) -> int:
    """What this user may still write in the home; 0 where there is no inode left for what SQLite keeps beside a file."""
    try:
        disk = os.statvfs(home.path)
    except OSError:
        return 0
    return disk.f_bavail * disk.f_frsize if disk.f_favail >= OPEN_INODES or not disk.f_files else 0


def _spend_reserve(home: Home) -> bool:
    spent = False
    for path in (home.reserve, home.reserve + ".new"):
        try:
            os.unlink(path)
            spent = True
        except OSError:
            continue
    return spent


def _values(value: object) -> tuple[object, ...]:
    return tuple(getattr(value, name) for name in value.__slots__)  # type: ignore[attr-defined]


def _printable(text: str | None) -> str | None:
    """SQLite keeps text as UTF-8, which has no place for the surrogates that stand for other bytes."""
    return None if text is None else os.fsencode(text).decode("utf-8", "backslashreplace")


def _storage_failed(home: Home, error: Exception) -> ProvisionerError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = getattr(error, "errno", None)
    where = f"the registry {home.registry}"
    if code == sqlite3.SQLITE_BUSY:
        return StorageFailed(
            f"{where} is locked by another process", "Try again; 'provisioner doctor' tells who holds it"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageFailed(
            f"{where} is corrupt: {error}", "The databases are untouched; see docs/operating.md, 'A corrupt registry'"
        )
    full = code == sqlite3.SQLITE_FULL or number == errno.ENOSPC
    if full or (code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and _free_bytes(home) < RESERVE_BYTES):
        return StorageFailed(f"no space is left for {where}", "Free space or inodes there, then run it again")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM) or number is not None:
        return StorageFailed(
            f"{where} cannot be written by this user: {error}",
            f"Make {home.path} writable for the user that runs provisioner, or set PROVISIONER_HOME",
        )
    return StorageFailed(f"{where} refused: {error}", "Run 'provisioner doctor'")
