"""A real server in the test's process, with as many databases as a test asks for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pg_server import PgServer

from provisioner.connect.client.store import RemoteStore
from provisioner.connect.server.options import Options
from provisioner.connect.server.runner import RunningServer
from provisioner.core.clock import now_ms
from provisioner.core.connection import FileLocation, ServerLocation
from provisioner.core.ids import AppId, DatabaseId, InstanceId, TimelineId
from provisioner.core.model import App, Connected, Database, Instance, Scope, Timeline
from provisioner.engines.files.layout import database_path
from provisioner.engines.postgres import names
from provisioner.engines.postgres.names import KV_GENERATION
from provisioner.kv.client.sync_client import open_store
from provisioner.kv.model import Message
from provisioner.kv.stores.postgres.store import PostgresStore
from provisioner.kv.stores.sqlite.store import SqliteStore
from provisioner.registry import tokens
from provisioner.registry.store import Registry
from provisioner.system import secret_key
from provisioner.system.home import Home


class Clock:
    """The server's: the machine's, until a test says what time it is."""

    def __init__(self) -> None:
        self.at: int | None = None

    def __call__(self) -> int:
        return now_ms() if self.at is None else self.at


@dataclass(frozen=True)
class Made:
    """A database of a server: its connect URL, a token that opens it, and the path of its file."""

    url: str
    token: str
    path: str


def keys_on(pg: PgServer, home: Home, identity: str, name: str) -> None:
    """Make a Deno KV database on PostgreSQL as ours are: of a role of its name, which alone connects to it."""
    password = secret_key.role_password(secret_key.secret(home), identity, KV_GENERATION)
    pg.ask(f"""create role "{name}" login password '{password}'""")
    pg.create_closed(name)
    pg.ask(f'alter database "{name}" owner to "{name}"')
    PostgresStore(pg.url(name, name, password)).close()


class Served:
    """A server on a home of its own; `certificate` and its key are files, for TLS."""

    def __init__(self, directory: Path, certificate: tuple[str, str] | None = None) -> None:
        self.clock = Clock()
        self.home = Home(str(directory / "home"))
        self._instance = Instance(
            InstanceId(str(uuid.uuid4())), "kv", "deno-kv", FileLocation(str(directory / "databases")), 0
        )
        self._app = App(AppId(str(uuid.uuid4())), "shop", b"/shop.git", b"main", 0, 0, 0)
        self.home.create()
        with Registry.open(self.home, create=True) as registry:
            registry.organization()
            registry.add_instance(self._instance)
            registry.save_app(self._app, 0)
            registry.assign(self._instance, self._app, 0)
        tls_cert, tls_key = certificate or (None, None)
        options = Options(port=0, tls_cert=tls_cert, tls_key=tls_key)
        self._running = RunningServer(self.home, options, lambda *_, **__: None, lambda: None, self.clock)
        self._running.start()

    def database(self) -> Made:
        """A new one, of a branch of its own."""
        identity = self._registered(self._instance)
        path = Path(database_path(self._instance.location, DatabaseId(identity)))
        path.parent.mkdir(parents=True)
        SqliteStore(path).close()
        return self._made(identity, str(path))

    def on_postgres(self, pg: PgServer) -> Made:
        """A new one on PostgreSQL; its `path` is a URL there."""
        instance = self._on_server(pg)
        identity = self._registered(instance)
        name = names.live(instance.id, DatabaseId(identity))
        keys_on(pg, self.home, identity, name)
        return self._made(identity, pg.url(name))

    def adopt(self, other: Served, made: Made) -> Made:
        """The database on PostgreSQL that another server has: from now on both have it, and one key."""
        secret_key.secret(self.home)
        Path(self.home.key).write_bytes(secret_key.secret(other.home))
        identity = made.url.split("/")[-2]
        with Registry.open(other.home) as registry:
            database = registry.database(DatabaseId(identity))
            assert database is not None
            instance = registry.instance_of(database.instance_id)
        with Registry.open(self.home) as registry:
            registry.add_instance(instance)
        self._registered(instance, identity)
        return self._made(identity, made.path)

    def _on_server(self, pg: PgServer) -> Instance:
        location = f"postgresql://127.0.0.1:{pg.port}"
        with Registry.open(self.home) as registry:
            for instance in registry.instances():
                if instance.location == location:
                    return instance
            instance = Instance(
                InstanceId(str(uuid.uuid4())), f"kv-{pg.port}", "deno-kv", ServerLocation(location), 0, pg.url()
            )
            registry.add_instance(instance)
            return instance

    def _registered(self, instance: Instance, identity: str = "") -> str:
        identity, branch = identity or str(uuid.uuid4()), str(uuid.uuid4())
        timeline = Timeline(TimelineId(str(uuid.uuid4())), self._app.id, branch.encode(), False, "0" * 40, 0, None, "")
        database = Database(
            id=DatabaseId(identity),
            timeline_id=timeline.id,
            instance_id=instance.id,
            name=f"shop--{branch}",
            state=Connected(),
            created_at=0,
            connected_at=0,
        )
        with Registry.open(self.home) as registry:
            registry.save_timelines([timeline])
            registry.save_databases([database])
        return identity

    def _made(self, identity: str, path: str) -> Made:
        url = f"{self._running.options.url}/v2/databases/{identity}/connect"
        return Made(url, secret_key.injected(secret_key.secret(self.home), identity, 0), path)

    def reading(self, made: Made) -> str:
        """A token that may only read it."""
        identity = made.url.split("/")[-2]
        with Registry.open(self.home) as registry:
            return tokens.create(registry, Scope.DATABASE, now_ms(), database_id=DatabaseId(identity), read_only=True)[
                1
            ]

    def archive(self, made: Made) -> None:
        """Say in the registry that it is archived."""
        with Registry.open(self.home) as registry:
            database = registry.database(DatabaseId(made.url.split("/")[-2]))
            assert database is not None
            registry.save_databases([database.archived(now_ms(), None)])

    def stop(self) -> None:
        self._running.stop()


@contextmanager
def served(directory: Path, certificate: tuple[str, str] | None = None) -> Iterator[Served]:
    server = Served(directory, certificate)
    try:
        yield server
    finally:
        server.stop()


class TimedStore(RemoteStore):
    """A remote store whose caller says what time it is on the server, as the contract of stores wants it.

    What has expired the server collects by itself; who wants it now looks into the file.
    """

    def __init__(self, server: Served, made: Made) -> None:
        super().__init__(made.url, made.token)
        self._clock = server.clock
        self._path = made.path

    def claim(self, now: int, most: int) -> tuple[list[Message], int | None]:
        self._clock.at = now
        return super().claim(now, most)

    def renew(self, ids: Sequence[str], now: int) -> None:
        self._clock.at = now
        super().renew(ids, now)

    def finish(self, id: str, success: bool, now: int) -> None:  # noqa: A002
        self._clock.at = now
        super().finish(id, success, now)

    def revive(self, now: int) -> tuple[int, int | None]:
        self._clock.at = now
        return super().revive(now)

    def collect(self, now: int) -> tuple[int, int | None]:
        assert super().collect(now) == (0, None)
        with closing(open_store(self._path)) as store:
            return store.collect(now)

    def close(self) -> None:
        self._clock.at = None
        super().close()
