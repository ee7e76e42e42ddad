"""`provisioner database snapshot` and `restore`: a database as it was."""

from __future__ import annotations

import click

from provisioner.cli.copies import app_option, end, instance_option, pause, queue_option, shared_by
from provisioner.cli.finding import meant, timeline_of
from provisioner.cli.shared import apps_meant, confirm, json_option, print_json, the_home, yes_option
from provisioner.clock import now_ms, rfc3339
from provisioner.engines.base import Source
from provisioner.errors import NotResolved, ProvisionerError
from provisioner.model import App, Database, Snapshot
from provisioner.naming import shown
from provisioner.reconcile import replacing
from provisioner.reconcile.revisions import REVISION
from provisioner.registry import snapshots as rows
from provisioner.registry.store import Registry
from provisioner.view import Document

SHORTEST_ID = 8
SHORTEST_REVISION = 7


@click.group()
def snapshot() -> None:
    """A database as it was at one moment, to go back to."""


@snapshot.command()
@click.argument("name", required=False)
@click.option("--label", default="", help="A word to know it by.")
@app_option
@instance_option
def create(name: str | None, label: str, slug: str | None, instance: str | None) -> None:
    """Keep a database as it is now, while others write to it. Default: that of the branch checked out here."""
    with Registry.open(the_home()) as registry:
        app, found = meant(registry, name, slug, instance)
        made = replacing.take_snapshot(registry, app, found, now_ms(), label=label, cause="user")
        click.echo(f"snapshot {made.id} of {found.name}, {made.size} bytes")


@snapshot.command(name="list")
@click.argument("name", required=False)
@app_option
@instance_option
@json_option
def list_snapshots(name: str | None, slug: str | None, instance: str | None, as_json: bool) -> None:
    """The snapshots of a database, the newest first. Default: of all of the app's databases."""
    with Registry.open(the_home()) as registry:
        if name is not None:
            pairs = [meant(registry, name, slug, instance)]
        else:
            pairs = [(app, item) for app in apps_meant(registry, slug, False) for item in registry.databases(app.id)]
        documents = [
            _document(registry, app, database, kept)
            for app, database in pairs
            for kept in rows.snapshots(registry, database.id)
        ]
    if as_json:
        print_json(documents)
        return
    for document in documents:
        label = f"  {document['label']}" if document["label"] else ""
        click.echo(
            shown(
                f"{document['id']}  {document['created_at']}  {document['database']}  {document['size']} bytes"
                f"  ({document['cause']}{_at(document)}){label}"
            )
        )


def _at(document: Document) -> str:
    return f" {document['revision'][:12]}" if document["cause"] == "revision" else ""


def _document(registry: Registry, app: App, database: Database, kept: Snapshot) -> Document:
    timeline = timeline_of(registry, app, database)
    return {
        "id": kept.id,
        "app": app.slug,
        "timeline": timeline.name.decode("utf-8", "surrogateescape"),
        "database": database.name,
        "database_id": database.id,
        "label": kept.label,
        "cause": kept.cause,
        "revision": kept.revision or None,
        "version": kept.version,
        "size": kept.size,
        "created_at": rfc3339(kept.created_at),
    }


@snapshot.command()
@click.argument("identity", metavar="SNAPSHOT")
@yes_option
def delete(identity: str, yes: bool) -> None:
    """Delete a snapshot for good. SNAPSHOT is its id, or the beginning of one."""
    with Registry.open(the_home()) as registry:
        kept = _find(registry, identity)
        app, database = _owner(registry, kept)
        confirm(f"Delete snapshot {kept.id} of {database.name}, taken {rfc3339(kept.created_at)}? It is gone then", yes)
        replacing.delete_snapshot(registry, app, database, kept, now_ms())
        click.echo(f"deleted snapshot {kept.id}")


@click.command()
@click.argument("name")
@click.argument("identity", metavar="SNAPSHOT", required=False)
@click.option("--revision", metavar="COMMIT", help="As it was when its timeline moved on from this commit.")
@app_option
@instance_option
@queue_option
@yes_option
def restore(
    name: str,
    identity: str | None,
    revision: str | None,
    slug: str | None,
    instance: str | None,
    with_queue: bool,
    yes: bool,
) -> None:
    """Make a database what it was when SNAPSHOT was taken. What it holds now becomes a snapshot."""
    if (identity is None) == (revision is None):
        raise click.UsageError("say which: SNAPSHOT, or --revision COMMIT")
    with Registry.open(the_home()) as registry:
        app, goal = meant(registry, name, slug, instance, own=True)
        kept = _find(registry, identity) if identity else _at_revision(registry, goal, revision or "")
        if kept.database_id != goal.id:
            raise ProvisionerError(
                f"snapshot {kept.id} is not one of {goal.name}", f"See: provisioner database snapshot list {goal.name}"
            )
        at = rfc3339(kept.created_at)
        users = shared_by(registry, app, goal)
        confirm(f"Make {goal.name} what it was at {at}?{users} What it holds now becomes a snapshot", yes)
        source = Source(goal, kept.id)
        made, replaced = replacing.put_in_place(
            registry, app, goal, source, now_ms(), action="restore", detail=f"as it was at {at}", with_queue=with_queue
        )
        click.echo(f"{goal.name} is as it was at {at}{pause(made)}")
        end(replaced)


def _at_revision(registry: Registry, database: Database, revision: str) -> Snapshot:
    """The data as it was at a commit, or at the one whose id begins so."""
    kept = [item for item in rows.snapshots(registry, database.id) if item.cause == REVISION]
    found = [item for item in kept if item.revision.startswith(revision.lower())]
    if len(revision) < SHORTEST_REVISION or not found:
        there = ", ".join(dict.fromkeys(item.revision[:12] for item in kept)) or "none"
        raise NotResolved(
            f"of {database.name} no data is kept at revision {revision!r}, but at: {there}",
            "'provisioner app set --snapshot-revisions N' keeps it from now on",
        )
    if len({item.revision for item in found}) > 1:
        raise NotResolved(f"several revisions begin with {revision!r}", "Give more of it")
    return found[0]


def _find(registry: Registry, identity: str) -> Snapshot:
    found = rows.find_snapshots(registry, identity) if len(identity) >= SHORTEST_ID else []
    if len(found) == 1:
        return found[0]
    if found:
        raise NotResolved(f"{len(found)} snapshots begin with {identity!r}", "Give more of the id")
    raise NotResolved(f"there is no snapshot {identity!r}", "See 'provisioner database snapshot list'")


def _owner(registry: Registry, kept: Snapshot) -> tuple[App, Database]:
    for app in registry.apps():
        for database in registry.databases(app.id):
            if database.id == kept.database_id:
                return app, database
    raise NotResolved(f"the database of snapshot {kept.id} is gone", "Its app was removed: add it again")
