"""Opening the entries of a deno-kv database, wherever its instance keeps them: the one place that tells files from a server.

Databases on a PostgreSQL server have the names that those of the postgres engine have.
"""

from __future__ import annotations

from provisioner import keys
from provisioner.config import Home
from provisioner.engines.layout import database_path
from provisioner.engines.pg import names, place
from provisioner.environment import ReachedServer
from provisioner.errors import StorageFailed
from provisioner.kv.direct import DirectStore
from provisioner.registry.places import Place

GENERATION = 0
"""Of the passwords of roles: no app has one, so none has to be replaced with an app's tokens."""


def open_store(found: Place, database_id: str, cache_kib: int) -> DirectStore:
    """It has to be there. `cache_kib`: of a file's connection. Raises KvError, StorageFailed."""
    if place.is_server(found.location):
        try:
            from provisioner.kv.postgres import open_store as on_postgres
        except ModuleNotFoundError as error:
            raise StorageFailed(
                f"database {found.name} is on PostgreSQL, which needs {error.name}",
                "Run: pip install 'timeline-provisioner[postgres]'",
            ) from error
        return on_postgres(_url(found, database_id), must_exist=True)
    from provisioner.kv.sqlite import SqliteStore

    return SqliteStore(database_path(found.location, database_id), must_exist=True, lean=True, cache_kib=cache_kib)


def _url(found: Place, database_id: str) -> str:
    """What the database's role connects with. Raises StorageFailed."""
    name = names.live(found.instance_id, database_id)
    password = keys.role_password(keys.secret(Home(found.home)), database_id, GENERATION)
    return ReachedServer(place.variables(found.location), name, name, password).url()
