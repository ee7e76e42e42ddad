"""`provisioner database snapshot` and `restore`: point-in-time copies of a database."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import click

from provisioner.cli import targets
from provisioner.cli.change import change, planned, snapshot_document
from provisioner.cli.commands.database.fork import deploy_option, queue_option
from provisioner.cli.context import (
    apps_meant,
    dry_run_option,
    json_option,
    looks,
    renamed,
    the_app,
    the_home,
    yes_option,
)
from provisioner.cli.listing import ListLayout, ListOptions, list_options, print_list
from provisioner.cli.selectors import NamedTarget, selector_options, target_argument
from provisioner.cli.table import Column
from provisioner.cli.targets import load
from provisioner.cli.terminal import carry_out
from provisioner.core.errors import NotResolved, WrongRepository
from provisioner.core.model import App
from provisioner.environment.resolve import Selectors
from provisioner.operations import snapshots
from provisioner.operations.documents import size_text
from provisioner.operations.instance.names import find as find_instance
from provisioner.registry import snapshots as rows
from provisioner.registry.store import Registry


@click.group()
def snapshot() -> None:
    """Manage snapshots: point-in-time copies to restore."""


@snapshot.command()
@target_argument()
@click.option("--label", default="", metavar="LABEL", help="A note that helps you recognize it.")
@json_option
def create(wanted: NamedTarget, label: str, as_json: bool) -> None:
    """Take a snapshot of a database.

    TARGET is a branch, a timeline, or one database by its name or id; by default, the branch that is checked out here.
    """
    with Registry.open(the_home()) as registry:
        target = load(registry, wanted)
        document = change(registry, "snapshot", target.app, target.timeline) if as_json else None
        carry_out(snapshots.keep(registry, target, label), document=document)


def _cause(document: Mapping[str, Any]) -> str:
    at = f" {document['revision'][:12]}" if document["cause"] == "revision" else ""
    return f"{document['cause']}{at}"


_LAYOUT = ListLayout(
    (
        *(Column("SNAPSHOT"), Column("CREATED", dropped=2), Column("DATABASE"), Column("SIZE", right=True, dropped=1)),
        *(Column("CAUSE", dropped=3), Column("LABEL", dropped=4)),
    ),
    ("id",),
    lambda item: {
        "SNAPSHOT": item["id"],
        "CREATED": item["created_at"],
        "DATABASE": item["database"],
        "SIZE": size_text(item["size"]),
        "CAUSE": _cause(item),
        "LABEL": item["label"],
    },
    "No snapshots yet. A snapshot is a point-in-time copy to restore. To take one: provisioner database snapshot create",
)


@snapshot.command(name="list")
@target_argument()
@click.option("--all", "everything", is_flag=True, help="Every app.")
@list_options
@looks
def list_snapshots(wanted: NamedTarget, everything: bool, listing: ListOptions) -> None:
    """List snapshots, newest first.

    Default: the snapshots of all of the app's databases.
    """
    slug = wanted.selectors.instance
    with Registry.open(the_home()) as registry:
        if wanted.names_timeline:
            target = load(registry, wanted)
            pairs = [(target.app, item) for item in dict.fromkeys((*target.used, *target.own))]
        else:
            on = find_instance(registry, slug).id if slug is not None else None
            apps = apps_meant(registry, wanted.selectors.app, everything)
            there = [(app, item) for app in apps for item in registry.databases(app.id)]
            pairs = [(app, item) for app, item in there if on in (None, item.instance_id)]
        documents = [
            snapshot_document(registry, app, database, kept)
            for app, database in pairs
            for kept in rows.snapshots(registry, database.id)
        ]
    if len(pairs) > 1 and wanted.narrowed:
        documents.sort(key=itemgetter("created_at"), reverse=True)
    print_list(documents, _LAYOUT, listing)


@snapshot.command()
@click.argument("names", metavar="SNAPSHOT...", nargs=-1, required=True)
@selector_options("app")
@dry_run_option
@yes_option
@json_option
def delete(names: tuple[str, ...], selectors: Selectors, yes: bool, as_json: bool) -> None:
    """Permanently delete snapshots.

    SNAPSHOT is a snapshot's id, at least the first 7 characters of it, or a label that only one snapshot of the app has. If
    one is unknown, none is deleted.
    """
    with Registry.open(the_home()) as registry:
        found = snapshots.find_each(registry, names, lambda: _app_meant(registry, selectors.app))
        owners = [snapshots.owner(registry, kept) for kept in found]
        was = [snapshot_document(registry, *owner, kept) for owner, kept in zip(owners, found, strict=True)]
        plan = [item for app, database in owners for item in planned(registry, "delete-snapshot", app, [database])]
        document = was[0] if len(names) == 1 else was
        proposal = snapshots.delete(registry, found)
        carry_out(proposal, yes=yes, document=(lambda _: document) if as_json else None, plan=plan)


def _app_meant(registry: Registry, slug: str | None) -> App | None:
    """The app that is named, or the app for the current directory, if there is one."""
    try:
        return the_app(registry, slug)
    except WrongRepository:
        raise
    except NotResolved:
        if slug is not None:
            raise
        return None


@click.command()
@target_argument("TARGET [SNAPSHOT]", required=True, most=1, options=("app", "branch", "timeline", "instance"))
@click.option("--revision", metavar="COMMIT", hidden=True, help="The data as it was at this commit.")
@queue_option
@deploy_option
@dry_run_option
@yes_option
@json_option
def restore(
    wanted: NamedTarget,
    words: list[str],
    revision: str | None,
    with_queue: bool,
    no_deploy: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Restore a database from a snapshot.

    TARGET is a branch, a timeline, or one database by its name or id. SNAPSHOT is the id or label of one of its snapshots, a
    commit, or a time such as 2h (ago): the latest one by then. Those taken together with it are restored too. The current
    data becomes snapshots, and the pre-deploy command runs on the restored data.
    """
    if (not words) == (revision is None):
        raise click.UsageError("Missing argument 'SNAPSHOT'.")
    if revision is not None:
        renamed("--revision COMMIT", "SNAPSHOT, which may be a commit")
    with Registry.open(the_home()) as registry:
        goal = load(registry, wanted)
        by_commit = revision is not None
        kept = (
            snapshots.of_revision(registry, goal, str(revision)) if by_commit else targets.at(registry, goal, words[0])
        )
        proposal = snapshots.restore(registry, goal, kept, with_queue=with_queue, deploy=not no_deploy)
        document = change(registry, "restore", goal.app, goal.timeline) if as_json else None
        plan = planned(registry, "restore", goal.app, goal.live)
        carry_out(proposal, yes=yes, document=document, plan=plan)
