"""`provisioner database share` and `unshare`: one database of several timelines, on purpose."""

from __future__ import annotations

import click

from provisioner.cli.copies import app_option, instance_option
from provisioner.cli.finding import of_timeline, timeline_meant, timeline_of
from provisioner.cli.instances.finding import find as find_instance
from provisioner.cli.reconcile import run
from provisioner.cli.shared import confirm, the_home, yes_option
from provisioner.clock import now_ms
from provisioner.errors import ProvisionerError
from provisioner.model import App, Database, Instance, Share, Status, Timeline
from provisioner.naming import shown
from provisioner.reconcile import sharing
from provisioner.registry.shares import shares
from provisioner.registry.store import Registry


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@app_option
@instance_option
@yes_option
def share(source: str, target: str, slug: str | None, instance: str | None, yes: bool) -> None:
    """Let the timeline TO use the database of FROM: what one writes, the other reads.

    TO's own database is archived and kept, and comes back with 'unshare'. Each is a branch or a timeline.
    """
    with Registry.open(the_home()) as registry:
        app, owner = timeline_meant(registry, source, slug)
        _, sharer = timeline_meant(registry, target, app.slug)
        on = _instance(registry, app, instance)
        _must_be_possible(registry, app, owner, sharer, on)
        database = of_timeline(registry, app, owner.name, on.slug, exact=True)
        if owner.production:
            confirm(f"Let {shown(sharer.name)} read and change the data of PRODUCTION in {database.name}?", yes)
        sharing.share(registry, app, sharer, database, now_ms())
        run(registry, app, "database share")
        _say(registry, database, f"{shown(sharer.name)} uses {database.name}, the database of {shown(owner.name)}")


@click.command()
@click.argument("target", metavar="TO")
@app_option
@instance_option
def unshare(target: str, slug: str | None, instance: str | None) -> None:
    """Give the timeline TO a database of its own again: the one it had, as it was, or a new one."""
    with Registry.open(the_home()) as registry:
        app, sharer = timeline_meant(registry, target, slug)
        mine = _of(registry, app, sharer)
        if instance is not None:
            mine = [item for item in mine if item.instance_id == find_instance(registry, instance).id]
        if not mine:
            raise ProvisionerError(f"{shown(sharer.name)} shares no database", "See 'provisioner status'")
        sharing.unshare(registry, app, sharer, mine, now_ms())
        run(registry, app, "database unshare")
        for item in mine:
            slug_of = registry.instance_of(item.instance_id).slug
            database = of_timeline(registry, app, sharer.name, slug_of, exact=True)
            _say(registry, database, f"{shown(sharer.name)} uses {database.name}, its own")


def _instance(registry: Registry, app: App, slug: str | None) -> Instance:
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
            whose = _owner(registry, app, share)
            raise ProvisionerError(f"{other} itself uses the database of {whose}", f"Share that one's: {whose}")
        if share.timeline_id == sharer.id and _owner(registry, app, share) != other:
            whose = _owner(registry, app, share)
            raise ProvisionerError(
                f"{name} uses the database of {whose} already", f"End that first: provisioner database unshare {name}"
            )
        database = registry.database(share.database_id)
        if database is not None and database.timeline_id == sharer.id:
            raise ProvisionerError(
                f"the database of {name} is shared itself", "Let the others go first: provisioner database unshare"
            )


def _owner(registry: Registry, app: App, share: Share) -> str:
    database = registry.database(share.database_id)
    assert database is not None  # noqa: S101 - rows of databases are never deleted
    return shown(timeline_of(registry, app, database).name)


def _of(registry: Registry, app: App, timeline: Timeline) -> list[Share]:
    return [item for item in shares(registry, app.id) if item.timeline_id == timeline.id]


def _say(registry: Registry, database: Database, words: str) -> None:
    now = registry.database(database.id)
    if now is not None and now.status is not Status.CONNECTED:
        raise ProvisionerError(
            f"{words}, which is {now.status}{f': {now.error}' if now.error else ''}",
            f"See 'provisioner database show {now.name}'",
        )
    click.echo(words)
