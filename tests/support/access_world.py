"""A home whose registry has a database of every kind, and a token of every kind for each."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from provisioner.core.connection import FileLocation
from provisioner.core.ids import AppId, DatabaseId, InstanceId, TimelineId
from provisioner.core.model import App, Database, Instance, Scope, Status, Timeline, state_of
from provisioner.registry import tokens
from provisioner.registry.store import Registry
from provisioner.system import secret_key
from provisioner.system.home import Home

NOW = 1_800_000_000_000
HOUR = 3_600_000
ABSENT = "00000000-0000-4000-8000-000000000000"

# Of each token, the databases that it opens. The statuses are the server's concern: 410 is for who may know.
EXPECTED = {
    "injected:login": {"login"},
    "injected:archived": {"archived"},
    "injected:purged": {"purged"},
    "injected:production": {"production"},
    "injected:foreign": {"foreign"},
    "database:login": {"login"},
    "database:archived": {"archived"},
    "database:production": {"production"},
    "app:shop": {"login", "cart", "archived", "purged"},
    "app:other": {"foreign"},
    "admin": {"login", "cart", "archived", "purged", "production", "foreign", "foreign production"},
}


@dataclass(frozen=True, slots=True)
class World:
    home: Home
    databases: dict[str, DatabaseId]
    apps: dict[str, AppId]

    def token(self, name: str, *, read_only: bool = False, expires_at: int | None = None) -> str:
        kind, _, what = name.partition(":")
        if kind == "injected":
            return secret_key.injected(secret_key.secret(self.home), self.databases[what], 0)
        with Registry.open(self.home) as registry:
            return tokens.create(
                registry,
                Scope(kind),
                NOW,
                app_id=self.apps[what] if kind == "app" else None,
                database_id=self.databases[what] if kind == "database" else None,
                read_only=read_only,
                expires_at=expires_at,
            )[1]


def world(path: Path) -> World:
    home = Home(str(path))
    ids = {}
    apps = {}
    with Registry.open(home, create=True) as registry:
        instance = Instance(
            InstanceId(str(uuid.uuid4())), "default", "deno-kv", FileLocation(str(path / "instances")), NOW
        )
        registry.add_instance(instance)
        for slug, branches in (
            ("shop", {"production": "main", "login": "login", "cart": "cart", "archived": "old", "purged": "older"}),
            ("other", {"foreign production": "main", "foreign": "login"}),
        ):
            app = App(AppId(str(uuid.uuid4())), slug, str(path / slug).encode(), b"main", 0, 0, NOW)
            apps[slug] = registry.save_app(app, NOW).id
            registry.assign(instance, app, NOW)
            for name, branch in branches.items():
                timeline = _timeline(app, branch)
                registry.save_timelines([timeline])
                ids[name] = DatabaseId(str(uuid.uuid4()))
                status = Status(name) if name in ("archived", "purged") else Status.CONNECTED
                registry.save_databases([_database(ids[name], timeline, instance, status)])
    return World(home, {**ids, "absent": DatabaseId(ABSENT)}, apps)


def _timeline(app: App, branch: str) -> Timeline:
    return Timeline(TimelineId(str(uuid.uuid4())), app.id, branch.encode(), branch == "main", "0" * 40, NOW, None, "")


def _database(database_id: DatabaseId, timeline: Timeline, instance: Instance, status: Status) -> Database:
    return Database(
        *(database_id, timeline.id, instance.id, f"name-{database_id}", state_of(status, archived_at=NOW), NOW, NOW)
    )
