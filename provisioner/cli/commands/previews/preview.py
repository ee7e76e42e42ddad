"""`provisioner preview`: a revision with its own databases, for a while."""

from __future__ import annotations

import os
from collections import deque

import click

from provisioner.cli.change import planned, timeline_after
from provisioner.cli.commands.database.fork import app_option
from provisioner.cli.context import (
    apps_meant,
    dry_run_option,
    json_option,
    looks,
    print_json,
    renamed,
    the_app,
    the_home,
    yes_option,
)
from provisioner.cli.listing import (
    ListLayout,
    ListOptions,
    list_options,
    print_list,
    with_archived,
)
from provisioner.cli.options.duration import OR_NEVER
from provisioner.cli.table import Column
from provisioner.cli.terminal import TERMINAL, carry_out
from provisioner.core.durations import lasting
from provisioner.core.errors import UsageError
from provisioner.core.model import App
from provisioner.core.naming import PREVIEW_PREFIX
from provisioner.environment.resolve import here
from provisioner.git.refs import commit_of
from provisioner.git.worktree import find_checkout
from provisioner.operations import documents as view
from provisioner.operations import previews
from provisioner.operations.previews import EMPTY, LASTS
from provisioner.registry import queries
from provisioner.registry.store import Registry


@click.group()
def preview() -> None:
    """Manage previews: databases for a single revision."""


@preview.command()
@click.argument("revision", metavar="COMMIT")
@click.option(
    "--from",
    "source",
    metavar="empty|production|BRANCH|snapshot",
    default=EMPTY,
    show_default=True,
    help="What its databases start from: nothing, a copy of another timeline, or the data as it was at COMMIT, if"
    " snapshots of revisions are kept.",
)
@click.option("--expires-in", type=OR_NEVER, help=f"Archive its databases this long after now. Default: {LASTS}.")
@click.option("--ttl", type=OR_NEVER, hidden=True)
@app_option
@json_option
def create(
    revision: str, source: str, expires_in: str | None, ttl: str | None, slug: str | None, as_json: bool
) -> None:
    """Create databases for a single revision.

    To run code with them, use 'provisioner exec --revision COMMIT'.

    If the preview existed before, its data is recovered.
    """
    if ttl is not None and expires_in is not None:
        raise UsageError("--expires-in and --ttl cannot be used together", "Use --expires-in")
    if ttl is not None:
        renamed("--ttl", "--expires-in")
    lasts = lasting(expires_in or ttl or LASTS) or 0
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        commit = _commit(app, revision, slug)
        proposal = previews.create(registry, app, revision, commit, TERMINAL, source=source, lasts_ms=lasts)
        if not as_json:
            carry_out(proposal)
            return
        try:
            deque(proposal.do(TERMINAL), 0)
        finally:
            made = previews.document(registry, app, commit) if commit else None
            if made is not None:
                print_json(made)


_LAYOUT = ListLayout(
    (Column("APP", dropped=1), Column("PREVIEW"), Column("STATUS"), Column("DATABASES", dropped=2), Column("EXPIRES")),
    ("app", "timeline"),
    lambda item: {
        "APP": item["app"],
        "PREVIEW": item["timeline"],
        "STATUS": item["status"],
        "DATABASES": ", ".join(database["name"] for database in item["databases"]),
        "EXPIRES": item["expires_at"] or "",
    },
    "No previews yet. A preview gives one revision its own databases for a while: provisioner preview create COMMIT",
    ("preview", "preview list"),
)


@preview.command(name="list")
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the app for the current directory, or all.")
@with_archived
@list_options
@looks
def list_previews(slug: str | None, everything: bool, archived: bool, listing: ListOptions) -> None:
    """List previews with their databases and expiry."""
    with Registry.open(the_home()) as registry:
        documents = [
            document
            for app in apps_meant(registry, slug, everything)
            for document in view.timelines(registry, app)
            if document["branch"] is None
        ]
    print_list(documents, _LAYOUT, listing, archived=archived or everything)


@preview.command()
@click.argument("revision", metavar="COMMIT")
@app_option
@dry_run_option
@yes_option
@json_option
def delete(revision: str, slug: str | None, yes: bool, as_json: bool) -> None:
    """Archive a preview's databases."""
    with Registry.open(the_home()) as registry:
        app = the_app(registry, slug)
        wanted = revision.removeprefix(os.fsdecode(PREVIEW_PREFIX))
        timeline = previews.find(registry, app, wanted, _commit(app, wanted, slug))
        document = timeline_after(registry, app, timeline) if as_json else None
        mine = [item for item in queries.databases_of(registry, timeline) if item.live]
        plan = planned(registry, "archive", app, mine)
        carry_out(previews.delete(registry, app, timeline), yes=yes, document=document, plan=plan)


def _commit(app: App, revision: str, slug: str | None) -> str | None:
    """The full id of the commit. HEAD is that of the current checkout, also in a clone or a linked worktree."""
    checkout = find_checkout(here()) if slug is None else None
    found = commit_of(checkout.git_dir, revision) if checkout else None
    return commit_of(app.git_dir, found or revision)
