"""The environment variables of an app on a timeline, and their notation for each reader.

Facts: docs/environment.md lists the variables of Deno, Deno Deploy, and provisioner. Light imports only: `exec` is here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provisioner.core.ids import AppId, DatabaseId, InstanceId, ShareId

# What the names of instances must not be, because variables that start so have another meaning.
RESERVED_INSTANCES = ("database", "deno", "dyld", "git", "ld", "otel", "pg", "provisioner")

# They control how programs and a shell's words are found: with another value nothing would start.
NOT_AN_APPS = ("BASH_ENV", "BASHOPTS", "IFS", "PATH", "SHELLOPTS")

# Inherited from a person's shell, these would lead an app to another database or to none.
STRAY = (
    "DENO_KV_PATH_PREFIX",
    "DENO_KV_DB_MODE",
    "DENO_KV_ACCESS_TOKEN",
    "DENO_KV_REQUIRES_DISTRIBUTED_DATABASE",
)

# The same for an app with a postgres database: libpq and similar clients would follow these elsewhere.
STRAY_LIBPQ = (
    *(
        "PGHOSTADDR",
        "PGSERVICE",
        "PGSERVICEFILE",
        "PGPASSFILE",
        "PGOPTIONS",
        "PGREQUIRESSL",
        "PGSSLMODE",
        "PGSSLROOTCERT",
    ),
    *("PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGSSLNEGOTIATION", "PGREQUIREAUTH", "PGCHANNELBINDING", "PGGSSENCMODE"),
    *("PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS"),
)

_URL_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")


class FileLocation(str):
    """The path of the directory that an instance stores in."""

    __slots__ = ()


class ServerLocation(str):
    """The URL of the PostgreSQL server that an instance stores on, without credentials."""

    __slots__ = ()


Location = FileLocation | ServerLocation


def parse_location(text: str) -> Location:
    """The location that a text of the registry names. No other code tells the two kinds apart by their text."""
    return ServerLocation(text) if "://" in text else FileLocation(text)


class ConnectedDatabase:
    """A database that a timeline is connected to, with its location: one for each assigned instance."""

    __slots__ = (
        "connect",
        "database_id",
        "database_name",
        "engine",
        "generation",
        "instance",
        "instance_id",
        "location",
        "share",
        "timeline",
    )

    def __init__(
        self,
        *,
        instance: str,
        instance_id: InstanceId,
        engine: str,
        location: Location,
        database_id: DatabaseId,
        database_name: str,
        connect: str,
        generation: int,
        share: ShareId,
        timeline: str = "",
    ) -> None:
        self.instance = instance
        self.instance_id = instance_id
        self.engine = engine
        self.location = location
        self.database_id = database_id
        self.database_name = database_name
        self.connect = connect  # file, url or auto
        self.generation = generation  # of the tokens and passwords that are injected
        self.share = share  # the id of the share that lets the timeline use it; empty if it is the timeline's own
        self.timeline = timeline  # the owner that its owner record must name; empty if it may name another


class TimelineConnection:
    """A timeline and the databases it is connected to, the first assigned first: the answer of a registry look-up."""

    __slots__ = (
        "app_id",
        "app_slug",
        "context",
        "databases",
        "org_id",
        "org_slug",
        "production",
        "revision",
        "timeline",
        "variables",
    )

    def __init__(
        self,
        *,
        org_id: str,
        org_slug: str,
        app_id: AppId,
        app_slug: str,
        timeline: str,
        production: bool,
        revision: str,
        context: str,
        databases: list[ConnectedDatabase],
        variables: dict[str, str],
    ) -> None:
        self.org_id = org_id
        self.org_slug = org_slug
        self.app_id = app_id
        self.app_slug = app_slug
        self.timeline = timeline
        self.production = production
        self.revision = revision
        self.context = context  # production, development or local
        self.databases = databases
        self.variables = variables  # those of the app


class KvEndpoint:
    """How an app reaches one of its deno-kv databases: by the file `path`, or at `url` with `token`."""

    __slots__ = ("path", "token", "url")

    def __init__(self, path: str, url: str = "", token: str = "") -> None:
        self.path = path
        self.url = url
        self.token = token

    def variables(self) -> dict[str, str]:
        found = {"DENO_KV_DEFAULT_PATH": self.url or self.path}
        if self.url:
            found["DENO_KV_ACCESS_TOKEN"] = self.token
            found["DENO_KV_REQUIRES_DISTRIBUTED_DATABASE"] = "error"  # no flag and no change of code is needed then
        return {**found, "PROVISIONER_KV_URL": self.url or sqlite_url(self.path)}

    def credentials(self) -> list[str]:
        """The credential that opens the database."""
        return [self.token] if self.token else []

    def named(self) -> dict[str, str]:
        found = {"KV_PATH": self.url or self.path, "KV_URL": self.url or sqlite_url(self.path)}
        return {**found, "KV_ACCESS_TOKEN": self.token} if self.url else found


class PostgresEndpoint:
    """How an app reaches one of its postgres databases: `server` has the variables of its location, such as PGHOST."""

    __slots__ = ("database", "password", "server", "user")

    def __init__(self, server: dict[str, str], database: str, user: str, password: str) -> None:
        self.server = server
        self.database = database
        self.user = user
        self.password = password

    def variables(self) -> dict[str, str]:
        return {"DATABASE_URL": self.url(), **self.named_by_libpq()}

    def credentials(self) -> list[str]:
        """The credential that opens the database."""
        return [self.password]

    def named(self) -> dict[str, str]:
        return {"DATABASE_URL": self.url()}

    def named_by_libpq(self) -> dict[str, str]:
        return {**self.server, "PGDATABASE": self.database, "PGUSER": self.user, "PGPASSWORD": self.password}

    def url(self) -> str:
        """``postgresql://user:password@host:port/database``; other settings for clients come after a ``?``."""
        hosts, ports = self.server["PGHOST"].split(","), self.server["PGPORT"].split(",")
        where = ",".join(
            f"[{host}]:{port}" if ":" in host and "/" not in host else f"{quoted(host)}:{port}"
            for host, port in zip(hosts, ports, strict=True)
        )
        more = "&".join(f"{word}={quoted(self.server[name])}" for word, name in SERVER_OPTIONS if name in self.server)
        url = f"postgresql://{quoted(self.user)}:{quoted(self.password)}@{where}/{quoted(self.database)}"
        return f"{url}?{more}" if more else url


SERVER_OPTIONS = (
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
)
"""Additional settings in a server's URL, and their variables."""

# Not in the URLs of apps: postgres.js, pgx, and asyncpg send unknown settings to the server, which refuses them.
AUTHENTICATION = ("require_auth", "PGREQUIREAUTH")
"""The ways in which a server may ask for the password: the word in a URL, and the variable."""


def variables(connection: TimelineConnection, reached: list[KvEndpoint | PostgresEndpoint]) -> dict[str, str]:
    """The variables of a timeline whose databases are reached this way.

    The first database of an engine fills the engine's own variables. In addition, each has some with its instance's name.
    """
    found: dict[str, str] = {}
    named: dict[str, str] = {}
    engines = set()
    for database, way in zip(connection.databases, reached, strict=True):
        if database.engine not in engines:
            engines.add(database.engine)
            found |= way.variables()
        prefix = instance_prefix(database.instance)
        for name, value in {**way.named(), "DATABASE": database.database_name}.items():
            named[f"{prefix}_{name}"] = value
    # users must not change what leads to the databases
    own = {name: value for name, value in connection.variables.items() if name not in NOT_AN_APPS}
    return {**own, **found, **_timeline(connection), **named}


def strays(values: dict[str, str]) -> list[str]:
    """Variables that an environment with these must not have in addition."""
    libpq = STRAY_LIBPQ if "PGDATABASE" in values else ()
    return [name for name in (*STRAY, *libpq) if name not in values]


def instance_prefix(slug: str) -> str:
    """The start of the names of an instance's variables. No two slugs share one, and no variable belongs to two instances."""
    return slug.upper().replace("-", "_")


def instance_variables(slug: str) -> list[str]:
    """The names of all variables that an instance may have."""
    prefix = instance_prefix(slug)
    return [f"{prefix}_{rest}" for rest in ("KV_PATH", "KV_URL", "KV_ACCESS_TOKEN", "DATABASE_URL", "DATABASE")]


def _timeline(connection: TimelineConnection) -> dict[str, str]:
    return {
        "DENO_TIMELINE": connection.timeline,
        "DENO_DEPLOY_APP_ID": connection.app_id,
        "DENO_DEPLOY_APP_SLUG": connection.app_slug,
        "DENO_DEPLOY_ORG_ID": connection.org_id,
        "DENO_DEPLOY_ORG_SLUG": connection.org_slug,
        "DENO_DEPLOY_BUILD_ID": connection.revision,
        "PROVISIONER_APP": connection.app_slug,
        "PROVISIONER_TIMELINE": connection.timeline,
        "PROVISIONER_CONTEXT": connection.context,
        "PROVISIONER_DATABASE": connection.databases[0].database_name,
    }


def database_url(base: str, database_id: DatabaseId) -> str:
    """The KV Connect URL of a database on the server at `base`."""
    return f"{base.rstrip('/')}/v2/databases/{database_id}/connect"


def sqlite_url(path: str) -> str:
    """``sqlite:///…``: the path as in any URL, with everything but unreserved characters percent-encoded."""
    return f"sqlite://{quoted(path, _URL_SAFE)}"


def quoted(text: str, safe: frozenset[int] = _URL_SAFE - {ord("/")}) -> str:
    """`text` as a part of a URL: everything but unreserved characters percent-encoded."""
    encoded = text.encode("utf-8", "surrogateescape")
    if not encoded.strip(bytes(safe)):  # each of them is safe, as in nearly all paths
        return text
    return "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in encoded)


def unquoted(text: str) -> str:
    """The argument that `quoted` was given."""
    first, *rest = text.encode().split(b"%")
    return (first + b"".join(bytes([int(part[:2], 16)]) + part[2:] for part in rest)).decode("utf-8", "surrogateescape")
