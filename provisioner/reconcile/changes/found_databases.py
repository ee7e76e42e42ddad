"""Recovering databases that are stored but missing from the registry, or recorded there for another timeline.

The registry was lost, or is older than the data. The owner record beside the data is newer, so it decides, unless git shows
that its branch has changed since: see `found_owners`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.ids import DatabaseId, TimelineId
from provisioner.core.model import App, Archived, Database, Hold, Instance, Intent, Provisioning, Status, Timeline
from provisioner.core.naming import shown
from provisioner.core.owner import Owner
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import StoredDatabase
from provisioner.reconcile.apply.locks import app_locked
from provisioner.reconcile.apply.new_rows import name_of
from provisioner.reconcile.apply.ownership import disagreement
from provisioner.reconcile.apply.ownership import disowned as refused
from provisioner.reconcile.plan.retry_delay import failure_of
from provisioner.registry import queries
from provisioner.registry.home import owners
from provisioner.registry.store import Registry


@dataclass(frozen=True, slots=True)
class Found:
    """A stored database on an instance, storing at one end if it is being moved. `known`: its row, which is not true.
    `recorded`: its owner record, if a person has chosen another owner."""

    instance: Instance
    stored: StoredDatabase
    known: Database | None = None
    recorded: Owner | None = None

    @property
    def id(self) -> DatabaseId:
        return self.stored.database_id

    @property
    def owner(self) -> Owner | None:
        return self.stored.owner


class Withheld(str):
    """Why no timeline gets a database."""

    __slots__ = ()


def unregistered(registry: Registry, instance: Instance) -> list[Found]:
    """Those on an instance that the registry does not have. Raises StorageFailed."""
    return [
        Found(storage, item)
        for storage in _ends(instance)
        for item in engine_of(storage).stored(storage, lambda: owners.registered(registry))
    ]


def disowned(registry: Registry, instance: Instance, database_ids: list[DatabaseId] | None = None) -> list[Found]:
    """Those that the registry has otherwise than they say of themselves; of these, or of all. Raises StorageFailed."""
    wanted = owners.with_data(registry, instance.id)
    if database_ids is not None:
        wanted = [each for each in wanted if each in database_ids]
    rows = [row for each in wanted if (row := registry.database(each)) is not None]
    found = []
    for storage in _ends(instance):
        databases = {row.id: row for row in rows if _is_there(storage, row)}
        there = engine_of(storage).find(storage, list(databases)) if databases else {}
        for known in owners.known(registry, list(there)):
            database_id = known.owner.database_id
            if disagreement(there[database_id], known, live=databases[database_id].live):
                found.append(Found(storage, there[database_id], databases[database_id]))
    return found


def _is_there(storage: Instance, database: Database) -> bool:
    return storage.move is None or database.moved == (storage.location == storage.move.location)


def disconnect(registry: Registry, instance: Instance, now: int) -> list[str]:
    """Let no program use those that the registry has otherwise than they say of themselves: the names and why."""
    told = []
    for found in disowned(registry, instance):
        assert found.known is not None  # noqa: S101
        timeline = registry.timeline(found.known.timeline_id)
        app = registry.app(timeline.app_id)
        if app is None:
            continue
        with app_locked(registry, app):
            database = registry.database(found.id)
            if database is None or not database.settled:
                continue
            storage = registry.storage_of(database)
            why = refused(registry, storage, [database], to_use=True).get(database.id)
            if why is not None:
                registry.save_databases([failure_of(database, why, now)])
                registry.audit(now, "database.error", timeline, database.id, why)
                told.append(f"{database.name}: {why}")
    return told


def take_back(
    registry: Registry, app: App, found: Found, owners_now: Mapping[DatabaseId, Owner | Withheld], now: int
) -> Database:
    """Register it for its owner among the present ones. What reconciling makes of it is the next step. The caller holds the
    app's lock, and has found out that it isn't withheld.

    Credentials that were injected for it become invalid: the registry that recorded revocations is gone. Raises
    ProvisionerError if that timeline has another live database.
    """
    with registry.change():
        current = registry.database(found.id)
        if current is not None and current.status is not Status.PURGED:
            if not disowned(registry, registry.instance_of(current.instance_id), [found.id]):
                return current  # it was recovered in the meantime
            found = replace(found, known=current)
        return _Recovery(registry, app, owners_now, now).take_back(found, frozenset())


@dataclass(frozen=True, slots=True)
class _Recovery:
    """What recovering one database may take: those that are in its place are recovered, too."""

    registry: Registry
    app: App
    owners_now: Mapping[DatabaseId, Owner | Withheld]
    now: int

    def take_back(self, found: Found, under_way: frozenset[DatabaseId]) -> Database:
        """`under_way` are those that had to go elsewhere before, and make room themselves."""
        said, owner = found.owner, self.owners_now[found.id]
        assert said is not None and isinstance(owner, Owner)  # noqa: S101, PT018 - the caller has found out the owner
        timeline = _timeline(self.registry, self.app, owner, self.now)
        if found.known is not None:  # it is not where it was, so that what belongs there has room
            self.registry.give_up_places([found.known.id])
        if not owner.orphaned:
            self._make_room(timeline, found, under_way | {found.id})
        name = name_of(self.app, timeline, found.instance, self.registry.first_assigned(self.app.id))
        row = replace(_row(found, owner, self.now, self.app), timeline_id=timeline.id, name=name)
        self.registry.save_databases([row])
        owners.begin_anew(self.registry, found.recorded or said, self.now)
        self.registry.audit(self.now, "database.adopt", timeline, row.id, found.stored.where)
        return row

    def _make_room(self, timeline: Timeline, found: Found, under_way: frozenset[DatabaseId]) -> None:
        """Databases without data are removed, and another timeline's returns there; the timeline's own must not be replaced."""
        registry = self.registry
        for other in queries.databases_of(registry, timeline):
            if not other.live or other.instance_id != found.instance.id or other.id in under_way:
                continue
            if other.connected_at is not None and not found.stored.archived:
                said = next(iter(disowned(registry, registry.instance_of(other.instance_id), [other.id])), None)
                elsewhere = self.owners_now.get(other.id)
                if said is not None and isinstance(elsewhere, Owner) and elsewhere.timeline != timeline.name:
                    self.take_back(said, under_way)
                    continue
                raise ProvisionerError(
                    f"{shown(timeline.name)} has a live database, {other.name} ({other.id})",
                    f"Archive that first: provisioner database archive {other.id}",
                )
            if other.connected_at is None:
                registry.save_databases([other.purged()])


def _row(found: Found, owner: Owner, now: int, app: App) -> Database:
    """As it is found: archived, or in use and to be looked at. One that no branch gets is to be archived."""
    made = _new(found, owner, archived=found.stored.archived, until=now + app.retention_ms, now=now)
    if owner.orphaned:
        away = Archived(now, now + app.retention_ms, hold=Hold.ORPHANED)
        made = replace(made, state=away if found.stored.archived else replace(away, intent=Intent.ARCHIVE))
    if found.known is None:
        return made
    return replace(found.known, state=made.state)


def _new(found: Found, owner: Owner, *, archived: bool, until: int, now: int) -> Database:
    return Database(
        id=found.id,
        timeline_id=TimelineId(""),
        instance_id=found.instance.id,
        name=owner.name,
        state=Archived(now, until) if archived else Provisioning(Intent.PROVISION),
        created_at=owner.created_at,
        connected_at=owner.created_at,
        moved=found.instance.move is not None and found.instance.location == found.instance.move.location,
    )


def _timeline(registry: Registry, app: App, owner: Owner, now: int) -> Timeline:
    """The timeline that it says it is of; made if it is gone, together with its branch."""
    found = queries.timeline_called(registry, app.id, owner.timeline)
    if found is not None:
        return found
    made = Timeline(
        id=TimelineId(str(uuid.uuid4())),
        app_id=app.id,
        branch=app.production if owner.production else owner.branch,
        production=owner.production,
        revision=os.fsdecode(owner.branch) if owner.preview else "",
        created_at=owner.created_at,
        gone_at=None,
        rename_mark="",
        preview=owner.preview,
        active_at=now,
    )
    registry.save_timelines([made])
    return made


def app_of(registry: Registry, found: Found) -> App:
    """The registered app that it says it is of: by its id, else by its repository. Raises NotResolved."""
    owner = found.owner
    if owner is None:
        raise NotResolved(
            f"database {found.id} has no record of its owner ({found.stored.where})",
            f"Choose its timeline: provisioner database recover {found.id} --app APP --to BRANCH",
        )
    apps = registry.apps()
    for app in apps:
        if app.id == owner.app_id:
            return app
    for app in apps:
        if app.git_dir == owner.repository:
            return app
    raise NotResolved(
        f"app {owner.app} of database {found.id} is not registered",
        f"In its repository run: provisioner init (it was {os.fsdecode(owner.repository)})",
    )


def _ends(instance: Instance) -> list[Instance]:
    return [instance.storage(moved=moved) for moved in ((False, True) if instance.moving else (False,))]
