"""What is asked about one timeline or one instance reads the rows of that one, and not those of all others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import counting
import pytest
from support import bare, repository

from provisioner.core.connection import FileLocation
from provisioner.core.ids import AppId, DatabaseId, InstanceId, SnapshotId, TimelineId
from provisioner.core.model import (
    App,
    Connected,
    Database,
    Instance,
    Share,
    Snapshot,
    SnapshotState,
    Timeline,
)
from provisioner.dashboard.pages.database_rows import use_of
from provisioner.git.repository_id import claim
from provisioner.operations import documents, snapshots
from provisioner.operations.instance.deletion import delete
from provisioner.operations.previews import create
from provisioner.operations.proposal import NullReporter
from provisioner.operations.shares import share
from provisioner.operations.target import of_timeline
from provisioner.reconcile.changes.revision_snapshots import moves
from provisioner.reconcile.controller import archive_instance, look
from provisioner.reconcile.plan.actions import UpdateTimeline
from provisioner.registry.shares import save_share
from provisioner.registry.snapshots import save_snapshot
from provisioner.registry.store import Registry
from provisioner.system.home import Home

pytestmark = pytest.mark.slow

NOW = 1_000_000_000
FEW, MANY = 10, 1_000
COMMIT = "c" * 40


@dataclass(frozen=True)
class Org:
    """A registry with an app that has many timelines, half of which share production's database, and one that has few."""

    registry: Registry
    large: App
    small: App
    unused: Instance

    @property
    def one(self) -> Timeline:
        return self.registry.timeline(TimelineId("large-branch-00001"))

    @property
    def main(self) -> Timeline:
        return self.registry.timeline(TimelineId("large-main"))

    @property
    def database(self) -> Database:
        (found,) = self.registry.databases_where("timeline_id = ?", self.one.id)
        return found


def _rows(app: App, instance: Instance, count: int) -> tuple[list[Timeline], list[Database], list[Share]]:
    names = [b"main", *(b"branch-%05d" % number for number in range(count))]
    timelines = [
        Timeline(TimelineId(f"{app.slug}-{name.decode()}"), app.id, name, name == b"main", COMMIT, 0, None, "")
        for name in names
    ]
    databases = [_database(item, instance) for item in timelines]
    used = [Share(item.id, instance.id, databases[0].id, 0) for item in timelines[2::2]]
    return timelines, databases, used


def _database(timeline: Timeline, instance: Instance) -> Database:
    return Database(
        id=DatabaseId(f"id-{timeline.id}"),
        timeline_id=timeline.id,
        instance_id=instance.id,
        name=timeline.id,
        state=Connected(),
        created_at=0,
        connected_at=1,
    )


def _home(top: Path, count: int) -> Home:
    served = bare(top / "small.git", repository(top / "small"))
    with Registry.open(Home(str(top / "home")), create=True) as registry:
        instances = [
            Instance(InstanceId(slug), slug, "deno-kv", FileLocation(str(top / slug)), 0) for slug in ("used", "unused")
        ]
        for instance in instances:
            os.mkdir(instance.location)
            registry.add_instance(instance)
        large = registry.save_app(App(AppId("large"), "large", b"/nowhere", b"main", 0, 60_000, 0), 0)
        small = registry.save_app(App(AppId("small"), "small", os.fsencode(served), b"main", 0, 60_000, 0), 0)
        claim(small.git_dir, small.id)
        registry.assign(instances[0], large, 0)
        registry.assign(instances[0], small, 0)
        timelines, databases, used = _rows(large, instances[0], count)
        with registry.change():
            registry.save_timelines(timelines)
            registry.save_databases(databases)
            for share in used:
                save_share(registry, share)
            for number, item in enumerate(databases):
                snapshot_id, revision = SnapshotId(f"{number:032x}"), "d" * 40 if number else COMMIT
                kept = Snapshot(snapshot_id, item.id, "", "revision", revision, SnapshotState.KEPT, 1, 1, 0, None)
                save_snapshot(registry, kept)
    return Home(str(top / "home"))


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> dict[int, Home]:
    assert shared_home
    return {count: _home(tmp_path_factory.mktemp(f"org-{count}"), count) for count in (FEW, MANY)}


def _counted(home: Home, lookup: Callable[[Org], object]) -> counting.Counts:
    with counting.counting() as counts, Registry.open(home) as registry:
        apps = {app.slug: app for app in registry.apps()}
        instances = {instance.slug: instance for instance in registry.instances()}
        lookup(Org(registry, apps["large"], apps["small"], instances["unused"]))
    return counts


def _preview(org: Org) -> None:
    create(org.registry, org.large, COMMIT, COMMIT, NullReporter(), source="snapshot", lasts_ms=0)


def _share(org: Org) -> None:
    owner, sharer = (of_timeline(org.registry, org.large, item) for item in (org.main, org.one))
    share(org.registry, org.large, owner, sharer)


LOOKUPS: dict[str, Callable[[Org], object]] = {
    "the plan of an app beside a large one": lambda org: look(org.registry, org.small, NOW),
    "the document of a timeline": lambda org: documents.timeline(org.registry, org.large, org.one),
    "what a timeline uses, for a page": lambda org: use_of(org.registry, org.one, org.database),
    "data to keep before a timeline moves on": lambda org: moves(
        org.registry,
        replace(org.large, snapshot_revisions=3),
        [UpdateTimeline(org.one, "d" * 40, None, "")],
    ),
    "a preview of the data at a revision": _preview,
    "a snapshot by its id": lambda org: snapshots.find(org.registry, f"{3:032x}"),
    "sharing a database": _share,
    "deleting an unused instance": lambda org: delete(org.registry, org.unused, backup=False),
    "archiving what is on an unused instance": lambda org: archive_instance(
        org.registry, org.large, org.unused, NOW, "test"
    ),
}


@pytest.mark.parametrize("lookup", LOOKUPS.values(), ids=LOOKUPS)
def test_a_lookup_costs_the_same_among_ten_timelines_and_a_thousand(
    lookup: Callable[[Org], object], homes: dict[int, Home]
) -> None:
    for home in homes.values():
        _counted(home, lookup)  # the first time imports what it needs, and fills caches
    base, many = (_counted(homes[count], lookup) for count in (FEW, MANY))
    assert many.statements == base.statements
    assert many.steps <= base.steps * 1.1, (base, many)
    assert many.calls <= base.calls * 1.1, (base, many)
