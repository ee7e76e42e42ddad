"""What a NAME refers to in commands that accept a database, a timeline, a branch, a file, or a URL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from provisioner.cli import standard_input
from provisioner.cli.context import the_app, the_home
from provisioner.cli.selectors import NamedTarget, parse
from provisioner.cli.targets import load_to_read
from provisioner.core.errors import NotReady, NotResolved, ProvisionerError
from provisioner.core.model import App, Database, Instance, Status
from provisioner.engines import open_store as stores
from provisioner.engines.catalog import engine_of
from provisioner.kv.client.sync_client import open_store
from provisioner.kv.dump.full_scan import Dumped, of_store
from provisioner.kv.dump.json_lines import Dump
from provisioner.kv.local_store import StoreSnapshot
from provisioner.kv.store import Store
from provisioner.kv.stores.sqlite import schema
from provisioner.kv.stores.sqlite.snapshot import has_entries
from provisioner.kv.stores.sqlite.store import SqliteStore
from provisioner.operations.lookup import called, known_timeline
from provisioner.operations.target import Target, all_used, only_one
from provisioner.registry.locations import place_of
from provisioner.registry.store import Registry
from provisioner.system.temp_dirs import directory

_FILES = ("/", "./", "../", "~")
_URLS = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class DataSource:
    """`where` is a path, a connect URL, or "-"; empty of a database on a server. `app` and `database` are those of the
    registry, if it has it."""

    name: str
    where: str
    app: App | None = None
    database: Database | None = None
    kept: bool = False  # the file of a snapshot, which only a copy is read of

    @property
    def remote(self) -> bool:
        return self.where.startswith(_URLS)


class WholeDatabase(NamedTuple):
    """A database that its engine dumps and loads as a whole."""

    app: App
    database: Database
    instance: Instance


def source_of(wanted: NamedTarget) -> DataSource | WholeDatabase:
    """A URL, or a path if it starts like one; else the only database of a target, or a path."""
    target = registered(wanted)
    if target is None:
        return _outside(wanted)
    return located(target, only_one(target))


def place(wanted: NamedTarget) -> DataSource:
    """The same, if that holds keys: of a target, the only database that does."""
    target = registered(wanted)
    if target is None:
        return _outside(wanted)
    keyed = with_keys(target)
    if len(keyed) > 1:
        only_one(target)
    found = located(target, keyed[0] if keyed else only_one(target))
    if isinstance(found, WholeDatabase):
        raise ProvisionerError(
            f"{found.database.name} is a {found.instance.engine} database, not a Deno KV database",
            "Use its own clients: provisioner exec -- COMMAND; or choose another instance: --instance INSTANCE",
        )
    return found


def with_keys(target: Target) -> tuple[Database, ...]:
    """The Deno KV databases among those that the target's programs are connected to."""
    return tuple(item for item in all_used(target) if engine_of(target.instance_of(item)).dumps is None)


def located(target: Target, database: Database) -> DataSource | WholeDatabase:
    """The location of one of a target's databases, or of a snapshot of it. Raises NotResolved if it has no data."""
    app = target.app
    with Registry.open(the_home()) as registry:
        on = registry.storage_of(database)
    kept = next((item for item in target.past if item.database_id == database.id), None)
    if kept is not None:
        path = engine_of(on).snapshot_file(on, database, kept.id)
        if path is None:
            raise ProvisionerError(
                f"snapshot {kept.id} of {database.name} is kept on its server and cannot be read alone",
                f"Fork it to a branch: provisioner database fork {target.name}@{{{kept.id}}} BRANCH",
            )
        return DataSource(f"{database.name}@{{{kept.id[:8]}}}", path, kept=True)
    if engine_of(on).dumps is not None:
        return WholeDatabase(app, database, on)
    if database.connected_at is None:
        raise NotReady(f'database "{database.name}" has no data yet', "See: provisioner status")
    return DataSource(database.name, engine_of(on).inspect(on, database).path or "", app, database)


def _outside(wanted: NamedTarget) -> DataSource:
    name = wanted.text or ""
    if name == "-" or name.startswith((*_URLS, "sqlite:")):
        return DataSource(name, name)
    return DataSource(name, os.path.abspath(os.path.expanduser(name) if name.startswith(_FILES) else name))


def registered(wanted: NamedTarget) -> Target | None:
    """A target of the registry; None for a file."""
    home, name = the_home(), wanted.text
    if name is not None and name.startswith((*_URLS, *_FILES, "sqlite:", "-")):
        return None
    is_file = name is not None and os.path.isfile(name)
    if is_file and not os.path.exists(home.registry):
        return None
    with Registry.open(home) as registry:
        if name is None:
            return load_to_read(registry, wanted)
        if is_file and not _is_known(registry, name, wanted.selectors.app):
            return None
        return load_to_read(registry, parse(name, wanted.selectors))


def _is_known(registry: Registry, name: str, slug: str | None) -> bool:
    """Whether a database or a timeline has this name; if not, it may be a file."""
    if called(registry, name):
        return True
    try:
        app = the_app(registry, slug)
    except NotResolved:
        return False
    return known_timeline(registry, app, os.fsencode(name), exact=False) is not None


@contextmanager
def snapshot(wanted: DataSource, *, pages: bool = False) -> Iterator[StoreSnapshot]:
    """The entries at this moment, of a database or of a dump; see `of_store`."""
    if wanted.where == "-":
        with standard_input.stream("a dump", "Pipe one in, or name a file") as stream:
            yield Dumped(Dump(stream))
    elif wanted.where and not wanted.remote and not _is_database(wanted.where):
        with readable(wanted.where) as file:
            yield Dumped(Dump(file))
    else:
        with opened(wanted) as store, of_store(store, pages=pages) as found:
            yield found


@contextmanager
def opened(wanted: DataSource, *, create: bool = False) -> Iterator[Store]:
    """The store of a database; `create` allows a file that does not exist yet."""
    path = wanted.where
    if wanted.kept:
        with directory(the_home()) as scratch, closing(SqliteStore(_copied(path, scratch))) as copy:
            yield copy
        return
    if wanted.database is not None and not path:
        if wanted.database.status is not Status.ARCHIVED:
            must_be_connected(wanted)
        with Registry.open(the_home()) as registry:
            found = place_of(registry, wanted.database.id)
        assert found is not None  # noqa: S101 - rows of databases are never deleted
        store: Store = stores.open_store(found, wanted.database.id, 0)
    elif wanted.remote or path.startswith("sqlite:"):
        store = open_store(path)
    else:
        if os.path.exists(path) or not create:
            _must_be_a_database(path)
        store = SqliteStore(path, must_exist=not create)
    with closing(store):
        yield store


def _copied(path: str, into: str) -> str:
    """A copy of a snapshot's file: SQLite writes beside what it reads."""
    target = os.path.join(into, "snapshot.sqlite3")
    try:
        shutil.copyfile(path, target)
    except OSError as error:
        raise ProvisionerError(f"{path} cannot be read: {error.strerror}") from error
    return target


def must_be_connected(wanted: DataSource) -> None:
    if wanted.database is not None and wanted.database.status is not Status.CONNECTED:
        raise NotReady(
            f"database {wanted.name!r} is {wanted.database.status}", f"See: provisioner database show {wanted.name}"
        )


@contextmanager
def readable(path: str) -> Iterator[BinaryIO]:
    try:
        file = open(path, "rb")  # noqa: SIM115 the try holds one call
    except OSError as error:
        raise ProvisionerError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield file


def _is_database(path: str) -> bool:
    return path.startswith("sqlite:") or not os.path.isfile(path) or not schema.why_not_a_database(path)


def _must_be_a_database(path: str) -> None:
    if not os.path.isfile(path):
        raise NotResolved(f"no file {path}")
    if not has_entries(path):
        raise ProvisionerError(f"{path} is not a Deno KV database", "Use a file that Deno or provisioner has created")
