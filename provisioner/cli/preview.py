"""`provisioner preview`: a revision with databases of its own, for a while."""

from __future__ import annotations

import os

import click

from provisioner import view
from provisioner.cli.copies import app_option
from provisioner.cli.finding import of_timeline
from provisioner.cli.reconcile import run, run_whole
from provisioner.cli.shared import apps_meant, confirm, json_option, print_json, the_app, the_home, yes_option
from provisioner.clock import now_ms
from provisioner.engines.base import Source
from provisioner.errors import NotResolved, ProvisionerError
from provisioner.git.refs import commit_of
from provisioner.git.worktree import find_checkout
from provisioner.model import App, Timeline
from provisioner.naming import PREVIEW_PREFIX, shown
from provisioner.reconcile.previews import close_preview, find_preview, open_preview
from provisioner.registry import snapshots as rows
from provisioner.registry.store import Registry
from provisioner.times import lasting

LASTS = "7d"
SHORTEST_ID = 7
EMPTY, SNAPSHOT = "empty", "snapshot"


@click.group()
def preview() -> None:
    """Revisions with databases of their own: preview/<revision>."""


@preview.command()
@click.argument("revision", metavar="REV")
@click.option(
    "--from",
    "source",
    metavar="empty|production|BRANCH|snapshot",
    default=EMPTY,
    show_default=True,
    help="What its databases begin with: nothing, a copy of another timeline's, or the data as it was at REV, where"
    " snapshots of revisions are kept.",
)
@click.option("--ttl", metavar="TIME|never", default=LASTS, show_default=True, help="How long it is kept.")
@app_option
@json_option
def create(revision: str, source: str, ttl: str, slug: str | None, as_json: bool) -> None:
    """Give the commit REV databases of its own. Run code with them by 'provisioner exec --revision REV'.

    One that was there before comes back with what it held.
    """
    lasts = lasting(ttl) or 0
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        commit = _commit(app, revision, slug)
        if commit is None:
            raise NotResolved(f"{revision!r} is no commit of {os.fsdecode(app.git_dir)}", "Push it, or name another")
        if not registry.assigned(app.id):
            raise NotResolved(
                f"app {app.slug!r} has no database instance assigned", f"Run: provisioner assign INSTANCE {app.slug}"
            )
        known = _document(registry, app, commit)
        if known is not None and source != EMPTY:
            raise ProvisionerError(
                f"preview/{commit} has data already",
                f"To begin anew: provisioner database reset preview/{commit} --from {source}",
            )
        timeline = open_preview(
            registry, app, commit, now_ms(), lasts_ms=lasts, sources=_sources(registry, app, commit, source)
        )
        run_whole(registry, app, "preview")
        _say(registry, app, timeline, as_json)


def _say(registry: Registry, app: App, timeline: Timeline, as_json: bool) -> None:
    document = _document(registry, app, timeline.revision)
    assert document is not None  # noqa: S101 - it has just been made
    if as_json:
        print_json(document)
    else:
        click.echo(_line(document))
    failed = next((item for item in document["databases"] if item["error"]), None)
    if failed is not None:
        raise ProvisionerError(
            f"{failed['name']}: {failed['error']}", f"Then run: provisioner database fix {failed['name']}"
        )


def _sources(registry: Registry, app: App, commit: str, source: str) -> dict[str, Source]:
    """By the id of each of the app's instances, what is to be copied there."""
    if source == EMPTY:
        return {}
    if source != SNAPSHOT:
        return {
            instance.id: Source(of_timeline(registry, app, os.fsencode(source), instance.slug))
            for instance in registry.assigned(app.id)
        }
    found: dict[str, Source] = {}
    for database in registry.databases(app.id):
        for kept in rows.snapshots(registry, database.id):
            if kept.revision == commit and kept.cause == "revision":
                found.setdefault(database.instance_id, Source(database, kept.id))
    missing = [item.slug for item in registry.assigned(app.id) if item.id not in found]
    if missing:
        raise NotResolved(
            f"on instance {missing[0]!r} no data is kept as it was at {commit}",
            f"Have it kept for later ones: provisioner app set {app.slug} --snapshot-revisions 10",
        )
    return found


@preview.command(name="list")
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the one whose checkout this is, else all.")
@click.option("--all", "everything", is_flag=True, help="Every app.")
@json_option
def list_previews(slug: str | None, everything: bool, as_json: bool) -> None:
    """Every preview with its databases, and until when it is kept."""
    with Registry.open(the_home()) as registry:
        documents = [
            document
            for app in apps_meant(registry, slug, everything)
            for document in view.timelines(registry, app)
            if document["branch"] is None
        ]
    if as_json:
        print_json(documents)
        return
    for document in documents:
        click.echo(_line(document))


@preview.command()
@click.argument("revision", metavar="REV")
@app_option
@yes_option
def delete(revision: str, slug: str | None, yes: bool) -> None:
    """Archive a preview's databases; they are kept for the retention time."""
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        timeline = _find(registry, app, revision, slug)
        confirm(f"Delete {shown(timeline.name)}? Its data is kept for the retention time", yes)
        close_preview(registry, app, timeline, now_ms())
        run(registry, app, "preview")
        document = _document(registry, app, timeline.revision)
        click.echo(_line(document) if document else f"deleted {shown(timeline.name)}")


def _commit(app: App, revision: str, slug: str | None) -> str | None:
    """The commit of the app that is meant: HEAD is that of the checkout one is in, also of a clone or a linked worktree."""
    checkout = find_checkout(os.getcwdb()) if slug is None else None
    here = commit_of(checkout.git_dir, revision) if checkout else None
    return commit_of(app.git_dir, here or revision)


def _find(registry: Registry, app: App, revision: str, slug: str | None) -> Timeline:
    wanted = revision.removeprefix(os.fsdecode(PREVIEW_PREFIX))
    exact = _commit(app, wanted, slug)
    found = find_preview(registry, app, exact) if exact else None
    if found is not None:
        return found
    if len(wanted) >= SHORTEST_ID:  # its commit may be gone
        begins = [item for item in registry.timelines(app.id) if item.preview and item.revision.startswith(wanted)]
        if len(begins) == 1:
            return begins[0]
    raise NotResolved(f"app {app.slug!r} has no preview of {revision!r}", "See 'provisioner preview list'")


def _document(registry: Registry, app: App, revision: str) -> view.Document | None:
    name = os.fsdecode(PREVIEW_PREFIX) + revision
    return next(
        (item for item in view.timelines(registry, app) if item["timeline"] == name and item["databases"]), None
    )


def _line(document: view.Document) -> str:
    names = ", ".join(item["name"] for item in document["databases"])
    until = f"  until {document['expires_at']}" if document["expires_at"] else ""
    return shown(f"{document['timeline']}  {document['status']}  {names}{until}")
