"""`provisioner database snapshot` and `restore`: a database as it was."""

from __future__ import annotations

import click

from provisioner.cli.commands.database.fork import app_option, instance_option, queue_option
from provisioner.cli.context import apps_meant, json_option, print_json, the_home, yes_option
from provisioner.cli.lookup import meant
from provisioner.cli.terminal import carry_out
from provisioner.core.clock import rfc3339
from provisioner.core.model import App, Database, Snapshot
from provisioner.core.naming import shown
from provisioner.operations import snapshots
from provisioner.operations.documents import Document
from provisioner.operations.lookup import timeline_of
from provisioner.registry import snapshots as rows
from provisioner.registry.store import Registry


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
        carry_out(snapshots.keep(registry, app, found, label))


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
    timeline = timeline_of(registry, database)
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
        kept = snapshots.find(registry, identity)
        app, database = snapshots.owner(registry, kept)
        carry_out(snapshots.delete(registry, app, database, kept), yes=yes)


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
        kept = snapshots.find(registry, identity) if identity else snapshots.at_revision(registry, goal, revision or "")
        carry_out(snapshots.restore(registry, app, goal, kept, with_queue=with_queue), yes=yes)
