"""What an app on a timeline finds in its environment, and how that is written for whoever reads it.

Facts: the variables of Deno, Deno Deploy and of ours are in docs/environment.md. Light imports only: `exec` is here.
"""

from __future__ import annotations

# Inherited from somebody's shell, these would lead an app to another database or to none.
STRAY = (
    "DENO_KV_PATH_PREFIX",
    "DENO_KV_DB_MODE",
    "DENO_KV_ACCESS_TOKEN",
    "DENO_KV_REQUIRES_DISTRIBUTED_DATABASE",
)

_URL_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")


class Connection:
    """A timeline and the database it is connected to: what a registry look-up answers."""

    __slots__ = (
        "app_id",
        "app_slug",
        "connect",
        "database_id",
        "database_name",
        "engine",
        "generation",
        "location",
        "org_id",
        "org_slug",
        "production",
        "revision",
        "timeline",
    )

    def __init__(
        self,
        *,
        org_id: str,
        org_slug: str,
        app_id: str,
        app_slug: str,
        timeline: str,
        production: bool,
        revision: str,
        engine: str,
        location: str,
        database_id: str,
        database_name: str,
        connect: str,
        generation: int,
    ) -> None:
        self.org_id = org_id
        self.org_slug = org_slug
        self.app_id = app_id
        self.app_slug = app_slug
        self.timeline = timeline
        self.production = production
        self.revision = revision
        self.engine = engine
        self.location = location
        self.database_id = database_id
        self.database_name = database_name
        self.connect = connect  # file, url or auto
        self.generation = generation  # of the tokens that are injected


def variables(connection: Connection, path: str) -> dict[str, str]:
    """The variables for a deno-kv database in the file `path` (absolute)."""
    return {"DENO_KV_DEFAULT_PATH": path, **_timeline(connection), "PROVISIONER_KV_URL": sqlite_url(path)}


def remote_variables(connection: Connection, url: str, token: str) -> dict[str, str]:
    """The variables for a deno-kv database that a server offers at `url`; no flag or code change is needed then."""
    return {
        "DENO_KV_DEFAULT_PATH": url,
        "DENO_KV_ACCESS_TOKEN": token,
        "DENO_KV_REQUIRES_DISTRIBUTED_DATABASE": "error",
        **_timeline(connection),
        "PROVISIONER_KV_URL": url,
    }


def _timeline(connection: Connection) -> dict[str, str]:
    return {
        "DENO_TIMELINE": connection.timeline,
        "DENO_DEPLOY_APP_ID": connection.app_id,
        "DENO_DEPLOY_APP_SLUG": connection.app_slug,
        "DENO_DEPLOY_ORG_ID": connection.org_id,
        "DENO_DEPLOY_ORG_SLUG": connection.org_slug,
        "DENO_DEPLOY_BUILD_ID": connection.revision,
        "PROVISIONER_APP": connection.app_slug,
        "PROVISIONER_TIMELINE": connection.timeline,
        "PROVISIONER_CONTEXT": "production" if connection.production else "development",
        "PROVISIONER_DATABASE": connection.database_name,
    }


def database_url(base: str, database_id: str) -> str:
    """The KV Connect URL of a database on the server at `base`."""
    return f"{base.rstrip('/')}/v2/databases/{database_id}/connect"


def sqlite_url(path: str) -> str:
    """``sqlite:///…``: the path as in any URL, with everything but unreserved characters percent-encoded."""
    encoded = path.encode("utf-8", "surrogateescape")
    return "sqlite://" + "".join(chr(byte) if byte in _URL_SAFE else f"%{byte:02X}" for byte in encoded)
