"""Opening the entries of a deno-kv database, wherever its instance keeps them: the one place that tells files from a server.

Databases on a PostgreSQL server have the names that those of the postgres engine have.
"""

from __future__ import annotations

import os

from provisioner.core.connection import AUTHENTICATION, PostgresEndpoint, ServerLocation, quoted
from provisioner.core.errors import StorageFailed
from provisioner.core.ids import DatabaseId
from provisioner.core.model import Archived
from provisioner.engines.files.layout import file_in
from provisioner.engines.postgres import names
from provisioner.engines.protocol import location
from provisioner.kv.local_store import DirectStore
from provisioner.registry.locations import DatabaseLocation
from provisioner.system import secret_key
from provisioner.system.home import Home


def open_store(found: DatabaseLocation, database_id: DatabaseId, cache_kib: int) -> DirectStore:
    """The database must exist, and may be archived. `cache_kib`: of a file's connection. Raises KvError, StorageFailed."""
    archived = isinstance(found.state, Archived)
    if isinstance(found.location, ServerLocation):
        try:
            from provisioner.kv.stores.postgres.store import open_store as on_postgres
        except ModuleNotFoundError as error:
            raise StorageFailed(
                f"database {found.name} is on PostgreSQL, which needs {error.name}",
                "Run: pip install 'timeline-provisioner[postgres]'",
            ) from error
        if archived:  # its role cannot log in
            name = names.name(names.ARCHIVED, found.instance_id, database_id)
            return on_postgres(_authenticated(found.url, found), dbname=name, must_exist=True)
        return on_postgres(_url(found, database_id), must_exist=True)
    from provisioner.kv.stores.sqlite.store import SqliteStore

    path = file_in(os.path.join(found.location, "archive" if archived else "live", database_id))
    return SqliteStore(path, must_exist=True, lean=True, cache_kib=cache_kib)


def _url(found: DatabaseLocation, database_id: DatabaseId) -> str:
    """What the database's role connects with: it gets at this one and at no other. Raises StorageFailed."""
    name = names.live(found.instance_id, database_id)
    password = secret_key.role_password(secret_key.secret(Home(found.home)), database_id, names.KV_GENERATION)
    return _authenticated(PostgresEndpoint(location.variables(found.location), name, name, password).url(), found)


def _authenticated(url: str, found: DatabaseLocation) -> str:
    """The URL, with what libpq has to know to send no password to another program that listens there."""
    word, variable = AUTHENTICATION
    return f"{url}{'&' if '?' in url else '?'}{word}={quoted(location.variables(found.location)[variable])}"
