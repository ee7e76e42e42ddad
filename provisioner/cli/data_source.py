"""What NAME means where a command takes a database, a timeline, a branch, a file or a URL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from provisioner.cli.context import the_app, the_home
from provisioner.cli.lookup import meant
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.model import App, Database, Instance, Status
from provisioner.core.naming import BRANCH_PREFIX, timeline_name
from provisioner.engines import open_store as stores
from provisioner.engines.catalog import engine_of
from provisioner.kv.client.sync_client import open_store
from provisioner.kv.dump.full_scan import Dumped, of_store
from provisioner.kv.dump.json_lines import Dump
from provisioner.kv.local_store import Snapshot
from provisioner.kv.store import Store
from provisioner.kv.stores.sqlite import schema
from provisioner.kv.stores.sqlite.snapshot import has_entries
from provisioner.kv.stores.sqlite.store import SqliteStore
from provisioner.operations.lookup import find
from provisioner.registry.locations import place_of
from provisioner.registry.queries import timeline_called
from provisioner.registry.store import Registry

_FILES = ("/", "./", "../", "~")
_URLS = ("http://", "https://")


@dataclass(frozen=True, slots=True)
class Place:
    """`where` is a path, a connect URL, or "-"; empty of a database on a server. `app` and `database` are those of the
    registry, if it has it."""

    name: str
    where: str
    app: App | None = None
    database: Database | None = None

    @property
    def remote(self) -> bool:
        return self.where.startswith(_URLS)


def place(name: str, slug: str | None, instance: str | None = None) -> Place:
    """A URL, or a path if it begins like one; else a database by name or id, a timeline or branch of the app, or a path."""
    if name == "-" or name.startswith((*_URLS, "sqlite:")):
        return Place(name, name)
    if name.startswith(_FILES):
        return Place(name, os.path.abspath(os.path.expanduser(name)))
    found = _registered(name, slug, instance)
    if found is None:
        return Place(name, os.path.abspath(name))
    app, database, on = found
    if engine_of(on).dumps is not None:
        raise ProvisionerError(
            f"{database.name} is a {on.engine} database, and no Deno KV database",
            "Use its own clients: provisioner exec -- COMMAND; or name another instance: --instance INSTANCE",
        )
    if database.connected_at is None:
        raise NotResolved(f'database "{database.name}" has no data yet', "See 'provisioner status'")
    return Place(database.name, engine_of(on).inspect(on, database).path or "", app, database)


def dumped_whole(name: str, slug: str | None, instance: str | None) -> tuple[App, Database, Instance] | None:
    """What NAME means where that is a database which its engine dumps as a whole; None where it is anything else."""
    if name == "-" or name.startswith((*_URLS, *_FILES, "sqlite:")):
        return None
    found = _registered(name, slug, instance)
    return found if found is not None and engine_of(found[2]).dumps is not None else None


def _registered(name: str, slug: str | None, instance: str | None) -> tuple[App, Database, Instance] | None:
    """A database of the registry; None for a file."""
    home = the_home()
    if not os.path.exists(home.registry) and os.path.isfile(name):
        return None
    with Registry.open(home) as registry:
        if os.path.isfile(name) and not _is_known(registry, name, slug):
            return None
        app, database = meant(registry, name, slug, instance)
        return app, database, registry.storage_of(database)


def _is_known(registry: Registry, name: str, slug: str | None) -> bool:
    """Whether a database or a timeline is called so; if not, it is worth looking for a file."""
    try:
        find(registry, name)
    except NotResolved:
        pass
    else:
        return True
    try:
        app = the_app(registry, slug)
    except NotResolved:
        return False
    raw = os.fsencode(name)
    wanted = {raw, BRANCH_PREFIX + raw, timeline_name(raw, production=raw == app.production)}
    return any(timeline_called(registry, app.id, each) for each in wanted)


@contextmanager
def snapshot(wanted: Place, *, pages: bool = False) -> Iterator[Snapshot]:
    """What is there at this moment: in a database, or in a dump; see `of_store`."""
    if wanted.where == "-":
        yield Dumped(Dump(sys.stdin.buffer))
    elif wanted.where and not wanted.remote and not _is_database(wanted.where):
        with readable(wanted.where) as file:
            yield Dumped(Dump(file))
    else:
        with opened(wanted) as store, of_store(store, pages=pages) as found:
            yield found


@contextmanager
def opened(wanted: Place, *, create: bool = False) -> Iterator[Store]:
    """The store of a database; with `create` also of a file that is not there yet."""
    path = wanted.where
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


def must_be_connected(wanted: Place) -> None:
    if wanted.database is not None and wanted.database.status is not Status.CONNECTED:
        raise NotResolved(
            f"database {wanted.name!r} is {wanted.database.status}", f"See 'provisioner database show {wanted.name}'"
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
        raise NotResolved(f"there is no file {path}")
    if not has_entries(path):
        raise ProvisionerError(f"{path} is no Deno KV database", "Name a file that Deno or provisioner has made")
