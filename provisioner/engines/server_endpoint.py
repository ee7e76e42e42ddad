"""How an app reaches its database: by its file, or at the home's server. Light: `exec` imports it."""

from __future__ import annotations

from provisioner.core.connection import ConnectedDatabase, database_url
from provisioner.core.errors import NotResolved, StorageFailed
from provisioner.system import pidfile
from provisioner.system.home import Home

PATIENCE_SECONDS = 2.0

_PORTS = {"http": 80, "https": 443}


def served(home: Home) -> tuple[int, str, str] | None:
    """The server that is up: its process id, where apps reach it, and where this machine does; None without one."""
    found = pidfile.at_work(home.server)
    if found is None:
        return None
    public, _, near = found[1].partition(" ")
    return found[0], public, near or public


def remote(home: Home, app_slug: str, database: ConnectedDatabase) -> tuple[str, str] | None:
    """URL and token of a database in mode ``url`` or ``auto``; None for its file.

    In mode ``auto`` the server is used while it runs. It is the same database both ways, so a server that has ended or was
    killed does not stop the app; one that runs and does not answer does. Raises `NotResolved`.
    """
    found = served(home)
    if found is None:
        if database.connect == "auto":
            return None
        raise NotResolved(
            f"app {app_slug!r} is connected by URL, and no server is up for {home.path}",
            "Start it with 'provisioner serve' or 'provisioner up', or change the mode with 'provisioner assign"
            f" --connect auto {database.instance} {app_slug}'",
        )
    pid, base, near = found
    if not _accepts(near):
        raise NotResolved(
            f"the server of {home.path} runs (process {pid}) but accepts no connection at {near}",
            "Restart the server, or end it. See: provisioner doctor",
        )
    from provisioner.system import secret_key

    try:
        key = secret_key.secret(home)
    except StorageFailed as error:
        error.exit_code = NotResolved.exit_code
        raise
    token = secret_key.injected(key, database.database_id, database.generation, database.share)
    return database_url(base, database.database_id), token


def _accepts(base: str) -> bool:
    """Whether a server accepts a connection there. The bare `_socket`, because `socket` takes longer to import."""
    import _socket

    scheme, _, rest = base.partition("://")
    authority = rest.partition("/")[0]
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, ""
    try:
        found = _socket.getaddrinfo(
            host.strip("[]").encode(),  # bytes: a text would import the codec of international names
            int(port or _PORTS.get(scheme, 0)),
            0,
            _socket.SOCK_STREAM,
        )
    except (OSError, ValueError):
        return False
    for family, kind, protocol, _, address in found:
        connection = _socket.socket(family, kind, protocol)
        connection.settimeout(PATIENCE_SECONDS)
        try:
            connection.connect(address)
        except OSError:
            continue
        finally:
            connection.close()
        return True
    return False
