"""One database of several timelines, on purpose."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App, Database, Instance, Share, Status, Timeline
from provisioner.core.naming import shown
from provisioner.operations.lookup import of_timeline, timeline_of
from provisioner.operations.proposal import Proposal, Told
from provisioner.operations.reconcile_now import run
from provisioner.reconcile.changes import shares as sharing
from provisioner.registry import queries
from provisioner.registry.shares import shares
from provisioner.registry.store import Registry


def share(
    registry: Registry, app: App, owner: Timeline, sharer: Timeline, instance: str | None, told: Told
) -> Proposal:
    """Let a timeline use another's database on `instance` (a slug; None: on the one that was assigned first)."""
    on = _assigned(registry, app, instance)
    _must_be_possible(registry, app, owner, sharer, on)
    database = of_timeline(registry, app, owner.name, told, on.slug, exact=True)

    def do(told: Told) -> Iterator[str]:
        sharing.share(registry, app, sharer, database, now_ms())
        run(registry, app, "database share", told, retry=queries.ids_of(registry, sharer) | {database.id})
        yield _used(
            registry, database, f"{shown(sharer.name)} uses {database.name}, the database of {shown(owner.name)}"
        )

    question = f"Let {shown(sharer.name)} read and change the data of PRODUCTION in {database.name}?"
    return Proposal(do, question if owner.production else "")


def unshare(registry: Registry, app: App, sharer: Timeline, instance: Instance | None) -> Proposal:
    """Give a timeline its own database again, on `instance` or wherever it shares one."""
    mine = queries.shares_of(registry, sharer)
    if instance is not None:
        mine = [item for item in mine if item.instance_id == instance.id]
    if not mine:
        raise ProvisionerError(f"{shown(sharer.name)} shares no database", "See 'provisioner status'")

    def do(told: Told) -> Iterator[str]:
        sharing.unshare(registry, app, sharer, mine, now_ms())
        run(registry, app, "database unshare", told, retry=queries.ids_of(registry, sharer))
        for item in mine:
            slug = registry.instance_of(item.instance_id).slug
            database = of_timeline(registry, app, sharer.name, told, slug, exact=True)
            yield _used(registry, database, f"{shown(sharer.name)} uses {database.name}, its own")

    return Proposal(do)


def _assigned(registry: Registry, app: App, slug: str | None) -> Instance:
    assigned = registry.assigned(app.id)
    for item in assigned:
        if slug in (None, item.slug):
            return item
    what = f"instance {slug!r} is not assigned to it" if slug else "it has no database instance assigned"
    raise ProvisionerError(f"app {app.slug!r}: {what}", f"Assign one: provisioner assign INSTANCE {app.slug}")


def _must_be_possible(registry: Registry, app: App, owner: Timeline, sharer: Timeline, instance: Instance) -> None:
    """Raises ProvisionerError where the one cannot use the other's database."""
    name, other = shown(sharer.name), shown(owner.name)
    if owner.id == sharer.id:
        raise ProvisionerError(f"{name} uses its own database already", "Name another timeline")
    if sharer.production or sharer.protected:
        what = "is protected" if sharer.protected else "holds production's data"
        raise ProvisionerError(f"{name} {what}: its database is never put away for another's", "Name another timeline")
    for share in shares(registry, app.id):
        if share.instance_id != instance.id:
            continue
        if share.timeline_id == owner.id:
            whose = _owner(registry, share)
            raise ProvisionerError(f"{other} itself uses the database of {whose}", f"Share that one's: {whose}")
        if share.timeline_id == sharer.id and _owner(registry, share) != other:
            whose = _owner(registry, share)
            raise ProvisionerError(
                f"{name} uses the database of {whose} already", f"End that first: provisioner database unshare {name}"
            )
        database = registry.database(share.database_id)
        if database is not None and database.timeline_id == sharer.id:
            raise ProvisionerError(
                f"the database of {name} is shared itself", "Let the others go first: provisioner database unshare"
            )


def _owner(registry: Registry, share: Share) -> str:
    database = registry.database(share.database_id)
    assert database is not None  # noqa: S101 - rows of databases are never deleted
    return shown(timeline_of(registry, database).name)


def _used(registry: Registry, database: Database, words: str) -> str:
    """The words, where they are true. Raises ProvisionerError where the database is not connected."""
    now = registry.database(database.id)
    if now is not None and now.status is not Status.CONNECTED:
        raise ProvisionerError(
            f"{words}, which is {now.status}{f': {now.error}' if now.error else ''}",
            f"See 'provisioner database show {now.name}'",
        )
    return words
