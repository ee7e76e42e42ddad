"""Databases that several timelines use deliberately."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App, Database, Instance, Share, Status, Timeline
from provisioner.core.naming import shown
from provisioner.operations.fork_reset import own_of
from provisioner.operations.lookup import timeline_of
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.reconcile_now import must_be_renewed, run
from provisioner.operations.target import Target, of_timeline
from provisioner.reconcile.changes import shares as sharing
from provisioner.registry import queries
from provisioner.registry.store import Registry


def share(registry: Registry, app: App, owner: Target, sharer: Target) -> Proposal:
    """Let a timeline use another's databases: on each instance in question, or on none if one cannot be shared."""
    if owner.app.id != app.id:
        raise ProvisionerError(f"{owner.name} is a timeline of app {owner.app.slug}", f"Choose one of {app.slug}")
    if sharer.narrowed:
        owner = owner.on(frozenset(item.id for item in sharer.instances))
    for instance in owner.instances:
        if instance.id in owner.assigned:
            _must_be_possible(registry, owner.timeline, sharer.timeline, instance)
    databases = own_of(registry, owner)

    def do(reporter: ProgressReporter) -> Iterator[str]:
        sharing.share(registry, app, sharer.timeline, databases, now_ms())
        ids = queries.ids_of(registry, sharer.timeline) | {item.id for item in databases}
        run(registry, app, "database share", reporter, retry=ids)
        for database in databases:
            words = f"{sharer.name} uses {database.name}, the database of {owner.name}"
            yield _used(registry, database, words)

    names = ", ".join(item.name for item in databases)
    question = f"Let {sharer.name} read and change the data of PRODUCTION in {names}?"
    return Proposal(do, question if owner.timeline.production else "")


def unshare(registry: Registry, app: App, sharer: Timeline, instance: Instance | None) -> Proposal:
    """Give a timeline its own databases again, on `instance` or on every instance where it shares one."""
    mine = queries.shares_of(registry, sharer)
    if instance is not None:
        mine = [item for item in mine if item.instance_id == instance.id]
    if not mine:
        raise ProvisionerError(f"{shown(sharer.name)} shares no database", "See: provisioner status")

    def do(reporter: ProgressReporter) -> Iterator[str]:
        sharing.unshare(registry, app, sharer, mine, now_ms())
        ended = {item.database_id for item in mine}
        run(registry, app, "database unshare", reporter, retry=queries.ids_of(registry, sharer) | ended)
        must_be_renewed(registry, app)
        own = of_timeline(registry, app, registry.timeline(sharer.id)).used
        for item in mine:
            for database in own:
                if database.instance_id == item.instance_id:
                    yield _used(registry, database, f"{shown(sharer.name)} uses {database.name}, its own")

    return Proposal(do)


def _must_be_possible(registry: Registry, owner: Timeline, sharer: Timeline, instance: Instance) -> None:
    """Raises ProvisionerError if the one cannot use the other's database."""
    name, other = shown(sharer.name), shown(owner.name)
    if owner.id == sharer.id:
        raise ProvisionerError(f"{name} already uses its own database", "Choose another timeline")
    if sharer.production or sharer.protected:
        what = "is protected" if sharer.protected else "holds production's data"
        raise ProvisionerError(f"{name} {what}: it cannot share another timeline's database", "Choose another timeline")
    theirs = queries.shares_of_all(registry, [owner.id, sharer.id])
    for share in (*theirs, *queries.shares_in(registry, queries.ids_of(registry, sharer))):
        if share.instance_id != instance.id:
            continue
        if share.timeline_id == owner.id:
            whose = _owner(registry, share)
            raise ProvisionerError(f"{other} itself uses the database of {whose}", f"Share that one instead: {whose}")
        if share.timeline_id == sharer.id and _owner(registry, share) != other:
            whose = _owner(registry, share)
            raise ProvisionerError(
                f"{name} already uses the database of {whose}", f"End that first: provisioner database unshare {name}"
            )
        database = registry.database(share.database_id)
        if database is not None and database.timeline_id == sharer.id:
            raise ProvisionerError(
                f"the database of {name} is shared itself", "End that first: provisioner database unshare TIMELINE"
            )


def _owner(registry: Registry, share: Share) -> str:
    database = registry.database(share.database_id)
    assert database is not None  # noqa: S101 - rows of databases are never deleted
    return shown(timeline_of(registry, database).name)


def _used(registry: Registry, database: Database, words: str) -> str:
    """The line, if the database is connected. Raises ProvisionerError if it is not."""
    now = registry.database(database.id)
    if now is not None and now.status is not Status.CONNECTED:
        raise ProvisionerError(
            f"{words}, which is {now.status}{f': {now.error}' if now.error else ''}",
            f"See: provisioner database show {now.name}",
        )
    return words
