"""Opening the entries of a deno-kv database, wherever its instance keeps them: the one place that tells files from a server.

Databases on a PostgreSQL server have the names that those of the postgres engine have.
"""

from __future__ import annotations

import os

from provisioner.engines.layout import file_in
from provisioner.engines.pg import names
from provisioner.engines.pg.place import is_server
from provisioner.errors import StorageFailed
from provisioner.kv.direct import DirectStore
from provisioner.model import Status
from provisioner.registry.places import Place


def open_store(place: Place, database_id: str, cache_kib: int) -> DirectStore:
    """It has to be there, and may be archived. `cache_kib`: of a file's connection. Raises KvError, StorageFailed."""
    archived = place.status is Status.ARCHIVED
    if is_server(place.location):
        try:
            from provisioner.kv.postgres import open_store as on_postgres
        except ModuleNotFoundError as error:
            raise StorageFailed(
                f"database {place.name} is on PostgreSQL, which needs {error.name}",
                "Run: pip install 'timeline-provisioner[postgres]'",
            ) from error
        name = names.name(names.ARCHIVED if archived else names.LIVE, place.instance_id, database_id)
        return on_postgres(place.url, dbname=name, must_exist=True)
    from provisioner.kv.sqlite import SqliteStore

    path = file_in(os.path.join(place.location, "archive" if archived else "live", database_id))
    return SqliteStore(path, must_exist=True, lean=True, cache_kib=cache_kib)
