"""What a command is about: a timeline with its databases, or some of them. Loaded once, and the same for every command."""

from __future__ import annotations

from dataclasses import dataclass, replace

from provisioner.core.counts import counted
from provisioner.core.errors import Ambiguous, NotReady, NotResolved
from provisioner.core.ids import InstanceId
from provisioner.core.model import App, Database, Instance, Snapshot, Status, Timeline
from provisioner.core.naming import shown
from provisioner.core.nearest import nearest
from provisioner.operations.instance.names import find
from provisioner.registry import queries
from provisioner.registry.store import Registry


@dataclass(frozen=True, slots=True)
class Target:
    """`own` are the timeline's databases that have data, or will have it, the live ones first; `shared` are live ones of
    other timelines that it uses instead. `instances` are the assigned ones, in their order, then others that have data of
    the timeline.

    ``past``: not their current data, but that of these snapshots, one of each, is meant, to be read.
    ``narrowed``: it is one database, or those on one instance, without the timeline's others.
    """

    app: App
    timeline: Timeline
    instances: tuple[Instance, ...]
    assigned: frozenset[str]
    own: tuple[Database, ...]
    shared: tuple[Database, ...] = ()
    narrowed: bool = False
    named: bool = False  # one database by its own name or id
    past: tuple[Snapshot, ...] = ()

    @property
    def name(self) -> str:
        return shown(self.timeline.name)

    @property
    def live(self) -> tuple[Database, ...]:
        return tuple(item for item in self.own if item.live)

    @property
    def archived(self) -> tuple[Database, ...]:
        return tuple(item for item in self.own if item.status is Status.ARCHIVED)

    @property
    def used(self) -> tuple[Database, ...]:
        """What programs on the timeline are connected to: on each instance the shared one, else its own."""
        found = {item.instance_id: item for item in (*self.live, *self.shared)}
        return tuple(found[item.id] for item in self.instances if item.id in found)

    def instance_of(self, database: Database) -> Instance:
        return next(item for item in self.instances if item.id == database.instance_id)

    def on(self, instance_ids: frozenset[InstanceId]) -> Target:
        """The same with these instances only."""
        return replace(
            self,
            instances=tuple(item for item in self.instances if item.id in instance_ids),
            assigned=self.assigned & instance_ids,
            own=tuple(item for item in self.own if item.instance_id in instance_ids),
            shared=tuple(item for item in self.shared if item.instance_id in instance_ids),
            narrowed=True,
        )


def of_timeline(registry: Registry, app: App, timeline: Timeline, instance: str | None = None) -> Target:
    """The timeline's databases, or those on one instance. Raises NotResolved if the timeline has none there."""
    assigned = registry.assigned(app.id)
    own = queries.databases_of(registry, timeline)
    shared = [item for item in queries.used_of_others(registry, timeline) if item.live]
    ids = frozenset(item.id for item in assigned)
    others = dict.fromkeys(item.instance_id for item in own if item.instance_id not in ids)
    instances = (*assigned, *(registry.instance_of(each) for each in others))
    target = Target(app, timeline, instances, ids, tuple(own), tuple(shared))
    if instance is None:
        return target
    meant = [item for item in instances if item.slug == instance]
    if not meant:
        find(registry, instance)
        there = [item.slug for item in assigned]
        raise NotResolved(
            f"instance {instance!r} is not assigned to app {app.slug!r}",
            f"Its instances: {', '.join(there) or 'none'}",
            candidates=nearest(instance, there),
        )
    return target.on(frozenset([meant[0].id]))


def of_database(registry: Registry, app: App, database: Database) -> Target:
    """One database, without its timeline's others."""
    timeline, instance = registry.timeline(database.timeline_id), registry.instance_of(database.instance_id)
    return Target(app, timeline, (instance,), frozenset([instance.id]), (database,), narrowed=True, named=True)


def all_used(target: Target) -> tuple[Database, ...]:
    """What programs on the timeline are connected to, one database for each instance; a single named one even if it is
    archived. Raises NotResolved if one is missing."""
    if target.named and not target.used and len(target.archived) == len(target.own) == 1:
        return target.archived
    there = {item.instance_id for item in target.used}
    for instance in target.instances:
        if instance.id in target.assigned and instance.id not in there:
            raise _missing(target, instance)
    if not there:
        raise NotResolved(
            f"app {target.app.slug!r} has no database instance assigned",
            f"Assign one: provisioner assign INSTANCE {target.app.slug}",
        )
    return target.used


def only_one(target: Target) -> Database:
    """The only database that programs on it are connected to. Raises NotResolved, with the instances, for several."""
    found = all_used(target)
    if len(found) > 1:
        slugs = [target.instance_of(item).slug for item in found]
        raise Ambiguous(
            f"{target.name} has {counted(len(found), 'database')}, on the instances {', '.join(slugs)}",
            "Choose one: --instance INSTANCE",
            candidates=slugs,
        )
    return found[0]


def _missing(target: Target, instance: Instance) -> NotResolved:
    others = "; for its other databases, add --instance INSTANCE" if len(target.assigned) > 1 else ""
    for item in target.archived:
        if item.instance_id == instance.id:
            return NotReady(
                f"database {item.name!r} of {target.name} is archived",
                f"Recover it: provisioner database recover {item.name}{others}",
            )
    return NotReady(
        f"{target.name} has no live database on instance {instance.slug!r}", f"Run: provisioner reconcile{others}"
    )
