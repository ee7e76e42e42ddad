"""How an app that is started now reaches its databases, and the variables that say so. Light: `exec` imports it."""

from __future__ import annotations

import os

from provisioner.core.connection import (
    ConnectedDatabase,
    FileLocation,
    KvEndpoint,
    PostgresEndpoint,
    ServerLocation,
    TimelineConnection,
    variables,
)
from provisioner.core.errors import NotResolved, StorageFailed
from provisioner.core.unconnected import NotYet
from provisioner.core.untrusted_file import read_text
from provisioner.engines.files.layout import OWNER_NAME, database_path
from provisioner.system.home import Home


def environment(home: Home, connection: TimelineConnection) -> dict[str, str]:
    """The variables of a timeline. Raises `NotResolved` where a database cannot be reached."""
    return variables(connection, all_reached(home, connection))


def all_reached(home: Home, connection: TimelineConnection) -> list[KvEndpoint | PostgresEndpoint]:
    """How an app reaches each of its databases. Raises `NotResolved` and `StorageFailed` where it cannot."""
    return [reached(home, connection.app_slug, each) for each in connection.databases]


def reached(home: Home, app_slug: str, database: ConnectedDatabase) -> KvEndpoint | PostgresEndpoint:
    """How an app reaches one database. Raises `NotResolved` and `StorageFailed` where it cannot."""
    return _WAYS[database.engine](home, app_slug, database)


def _postgres(home: Home, _: str, database: ConnectedDatabase) -> PostgresEndpoint:
    """Whether a server answers is not asked: that may take long, and its clients find out themselves."""
    from provisioner.engines.postgres import names
    from provisioner.engines.protocol import location
    from provisioner.system import secret_key

    try:
        if isinstance(database.location, FileLocation):
            _start_embedded(database.location)
        server = location.variables(database.location)
        key = secret_key.secret(home)
    except StorageFailed as error:
        error.exit_code = NotResolved.exit_code
        raise
    except OSError as error:
        raise NotResolved(
            f"the server of instance {database.instance!r} in {database.location} cannot be reached: {error.strerror}",
            f"Run: provisioner instance test {database.instance}",
        ) from error
    name = names.live(database.instance_id, database.database_id)
    role = names.of_share(database.instance_id, database.database_id, database.share) if database.share else name
    password = secret_key.role_password(key, database.database_id, database.generation, database.share)
    return PostgresEndpoint(server, name, role, password)


def _start_embedded(directory: FileLocation) -> None:
    from provisioner.engines.protocol import location

    if location.listens(directory):
        return
    from provisioner.engines.catalog import ENGINES
    from provisioner.system.looking import may_start

    before = location.port(directory)
    if before and not may_start():
        return
    ENGINES["postgres"].start(directory)
    if before not in ("", now := location.port(directory)):
        import sys

        sys.stderr.write(
            f"provisioner: another program has taken port {before}, so the PostgreSQL server in {directory} now listens on"
            f" port {now}. Restart the programs that use it\n"
        )


def _deno_kv(home: Home, app_slug: str, database: ConnectedDatabase) -> KvEndpoint:
    if isinstance(database.location, ServerLocation):
        return _through_a_server(home, app_slug, database)
    path = _usable_file(database)
    _must_say_so(database)
    remote = _remote(home, app_slug, database)
    return KvEndpoint(path, *remote) if remote else KvEndpoint(path)


def _through_a_server(home: Home, app_slug: str, database: ConnectedDatabase) -> KvEndpoint:
    """The endpoint of a database that is not a file: only the provisioner server reaches it, whatever the mode."""
    from provisioner.engines import server_endpoint

    why = (
        f"instance {database.instance!r} stores on {database.location}, which apps reach through the provisioner server"
    )
    if database.connect == "file":
        raise NotResolved(
            f"app {app_slug!r} is connected by file, but {why}",
            f"Run: provisioner assign --connect auto {database.instance} {app_slug}",
        )
    found = server_endpoint.remote(home, app_slug, database) if server_endpoint.served(home) else None
    if found is None:
        raise NotResolved(f"{why}, and none is up for {home.path}", "Start one: provisioner up")
    return KvEndpoint("", *found)


def _remote(home: Home, app_slug: str, database: ConnectedDatabase) -> tuple[str, str] | None:
    """URL and token where the server is to be used; where no server is up nothing more is imported to say so."""
    if database.connect == "file" or (database.connect == "auto" and not os.path.exists(home.server)):
        return None
    from provisioner.engines import server_endpoint

    return server_endpoint.remote(home, app_slug, database)


def _usable_file(database: ConnectedDatabase) -> str:
    """The connected database's file, looked at: it is there, can be written, and is a database.

    No part of its path is a link: Deno follows none.
    """
    path = os.path.realpath(database_path(database.location, database.database_id))
    problem = ""
    try:
        with open(path, "r+b", buffering=0) as file:
            if file.read(16) != b"SQLite format 3\0":
                problem = "is not an SQLite database"
    except OSError as error:
        problem = f"cannot be opened: {error.strerror}"
    if problem:
        raise NotResolved(
            f"database {database.database_name!r} {problem} ({path})",
            f"Put the file back; 'provisioner database show {database.database_name}' shows more",
        )
    return path


def _must_say_so(database: ConnectedDatabase) -> None:
    """Raises NotYet if the owner record names another timeline or a later generation of the credentials: the registry is an
    older one, or has just changed."""
    if not database.timeline:
        return
    directory = os.path.dirname(database_path(database.location, database.database_id))
    text = read_text(os.path.join(directory, OWNER_NAME))
    if not text:
        return  # one that is older than such files
    if f'"name": "{database.timeline}",\n  "branch":' in text and f'"generation": {database.generation},\n' in text:
        return
    from provisioner.core.naming import shown
    from provisioner.core.owner import Owner

    owner = Owner.parse(text)  # a name may be written in another way, and a power cut leave nothing
    if owner is not None and os.fsdecode(owner.timeline) != database.timeline:
        raise NotYet(
            f"database {database.database_name!r} belongs to {shown(owner.timeline)} of app {owner.app}, according to its owner"
            " record, so the registry may be older than the data",
            f"To use it as that, run: provisioner database recover {database.database_id}",
        )
    if owner is not None and owner.generation > database.generation:
        raise NotYet(
            f"the credentials of database {database.database_name!r} were revoked, according to its owner record, so the registry"
            " may be older than the data",
            f"Run: provisioner database recover {database.database_id}",
        )


TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_WAYS: dict[str, Callable[[Home, str, ConnectedDatabase], KvEndpoint | PostgresEndpoint]] = {
    "deno-kv": _deno_kv,
    "postgres": _postgres,
}
