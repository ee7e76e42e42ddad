"""`provisioner database`: list, show, fix, archive, and recover databases."""

from __future__ import annotations

import os

import click

from provisioner.cli.change import Describe, change, planned, said
from provisioner.cli.commands.database.fork import fork, reset
from provisioner.cli.commands.database.snapshots import restore, snapshot
from provisioner.cli.context import dry_run_option, json_option, looks, print_json, the_app, the_home, yes_option
from provisioner.cli.groups import LazyGroup
from provisioner.cli.listing import ListLayout, ListOptions, list_options, print_list, with_archived
from provisioner.cli.selectors import NamedTarget, target_argument
from provisioner.cli.table import Column
from provisioner.cli.targets import filtered, load
from provisioner.cli.terminal import TERMINAL, carry_out
from provisioner.core.clock import rfc3339
from provisioner.core.errors import NotResolved
from provisioner.core.naming import shown
from provisioner.operations import archive as holding
from provisioner.operations import documents as view
from provisioner.operations import retry
from provisioner.operations.home import found_databases
from provisioner.operations.instance.names import find as find_instance
from provisioner.operations.lookup import timeline_meant
from provisioner.operations.target import only_one
from provisioner.reconcile.changes.found_databases import Found
from provisioner.registry.store import Registry

# Each is in its own module, which is imported when the command is used.
_ELSEWHERE = {
    "dump": "provisioner.cli.commands.database.dump:dump",
    "load": "provisioner.cli.commands.database.load:load",
    "diff": "provisioner.cli.commands.database.diff:diff",
    "share": "provisioner.cli.commands.database.share:share",
    "unshare": "provisioner.cli.commands.database.share:unshare",
}


@click.group(cls=LazyGroup, elsewhere=_ELSEWHERE)
def database() -> None:
    """Manage databases: one per instance, app, and timeline."""


for _command in (fork, reset, snapshot, restore):
    database.add_command(_command)


_LAYOUT = ListLayout(
    (
        *(Column("DATABASE"), Column("STATUS"), Column("APP", dropped=2), Column("TIMELINE")),
        *(Column("INSTANCE", dropped=3), Column("SIZE", right=True, dropped=1)),
    ),
    ("id", "timeline"),
    lambda item: {
        "DATABASE": item["name"],
        "STATUS": item["status"],
        "APP": item["app"],
        "TIMELINE": item["timeline"],
        "INSTANCE": item["instance"],
        "SIZE": view.size_text(item["size"]),
    },
    "No databases yet. Each branch of an app with an instance gets one. To register an app, run: provisioner init",
    ("database", "database list"),
)


@database.command(name="list")
@target_argument()
@with_archived
@list_options
@looks
def list_databases(wanted: NamedTarget, everything: bool, archived: bool, listing: ListOptions) -> None:
    """List databases with their timeline and status."""
    with Registry.open(the_home()) as registry:
        documents = view.flat(filtered(registry, wanted, everything))
    print_list(documents, _LAYOUT, listing, archived=archived or everything or wanted.names_timeline)


@database.command()
@target_argument()
@json_option
@looks
def show(wanted: NamedTarget, as_json: bool) -> None:
    """Show a database and its history.

    TARGET is a branch, a timeline, or a database by its name or id; by default, the branch that is checked out here.
    """
    with Registry.open(the_home()) as registry:
        target = load(registry, wanted)
        found = target.archived[0] if not target.used and target.archived else only_one(target)
        document = view.database(registry, target.app, found)
        document["history"] = [
            {"at": rfc3339(at), "action": action, "cause": cause, "detail": detail}
            for at, action, cause, detail in registry.events(found.id)
        ]
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        if key != "history" and value not in (None, []):
            click.echo(shown(f"{key}: {', '.join(value) if isinstance(value, list) else value}"))
    for event in document["history"]:
        click.echo(shown(f"  {event['at']} {event['action']} ({event['cause']}) {event['detail']}".rstrip()))


@database.command()
@target_argument()
@click.option("--all", "everything", is_flag=True, help="Every database that failed.")
@json_option
def fix(wanted: NamedTarget, everything: bool, as_json: bool) -> None:
    """Retry what failed: a database or its pre-deploy command.

    TARGET is a branch, a timeline, or one database by its name or id; by default, the branch that is checked out here.
    With --all, --instance restricts it to the databases on one instance. 'database show' shows the error.
    """
    selectors = wanted.selectors
    if everything and wanted.names_timeline:
        raise click.UsageError("--all and a target cannot be used together")
    several = _messages("fix") if as_json else None
    with Registry.open(the_home()) as registry:
        if not everything:
            target = load(registry, wanted)
            document = change(registry, "fix", target.app, target.timeline) if as_json else None
            wanted_ones = target.live or target.own
            carry_out(retry.databases(registry, target.app, target.timeline, wanted_ones), document=document)
        elif selectors.instance is not None:
            carry_out(retry.instance(registry, find_instance(registry, selectors.instance)), document=several)
        else:
            app = the_app(registry, selectors.app) if selectors.app is not None else None
            carry_out(retry.everything(registry, app), document=several)


@database.command()
@target_argument("TARGET", required=True)
@dry_run_option
@yes_option
@json_option
def archive(wanted: NamedTarget, yes: bool, as_json: bool) -> None:
    """Archive a database, recoverable for the retention period.

    TARGET is a branch, a timeline, or one database by its name or id. To undo, run 'provisioner database recover'.
    """
    with Registry.open(the_home()) as registry:
        target = load(registry, wanted)
        document = change(registry, "archive", target.app, target.timeline) if as_json else None
        plan = planned(registry, "archive", target.app, target.live)
        carry_out(holding.archive(registry, target), yes=yes, document=document, plan=plan)


@database.command()
@target_argument()
@click.option("--all", "everything", is_flag=True, help="Every stored database that is missing from the registry.")
@click.option("--to", "branch", metavar="BRANCH", help="Give the data to this branch.")
@json_option
def recover(wanted: NamedTarget, everything: bool, branch: str | None, as_json: bool) -> None:
    """Recover an archived database.

    TARGET is a branch, a timeline, or one database by its name or id. If the branch is gone, its recovered databases stay
    until you archive them. Restart programs that use a database that was missing from the registry.
    """
    if everything == wanted.narrowed:
        raise click.UsageError("choose a target, or use --all")
    several = _messages("recover") if as_json else None
    with Registry.open(the_home()) as registry:
        if everything:
            carry_out(found_databases.take_back_all(registry), document=several)
            return
        found = _found(registry, wanted, branch)
        if found:
            carry_out(found_databases.take_back(registry, found, named=branch is not None), document=several)
            return
        target = load(registry, wanted)
        to = None if branch is None else timeline_meant(registry, target.app, os.fsencode(branch), TERMINAL)
        document = change(registry, "recover", target.app, to or target.timeline) if as_json else None
        carry_out(holding.recover(registry, target, to), document=document)


def _messages(action: str) -> Describe:
    """The document of a change to databases of several timelines."""
    return lambda lines: {
        "action": action,
        "app": None,
        "timeline": None,
        "databases": [],
        "snapshots": [],
        **said(lines),
    }


def _found(registry: Registry, wanted: NamedTarget, branch: str | None) -> list[Found]:
    """A stored database that is missing from the registry, by its id; or those of a timeline that has nothing archived."""
    if wanted.text is not None and (one := found_databases.with_id(registry, wanted.text)) is not None:
        if branch is None:
            return [one]
        return [found_databases.named_for(registry, one, the_app(registry, wanted.selectors.app), branch)]
    try:
        target = load(registry, wanted)
    except NotResolved:
        return []
    if target.archived or branch is not None:
        return []
    return found_databases.of_timeline(registry, target.app, target.timeline)


@database.command()
@target_argument("TARGET", required=True)
@dry_run_option
@yes_option
@json_option
def purge(wanted: NamedTarget, yes: bool, as_json: bool) -> None:
    """Permanently delete an archived database now.

    TARGET is a branch, a timeline, or one database by its name or id. A database whose data is lost is discarded, even if
    it is live; if its branch exists, the branch gets a new, empty database.
    """
    with Registry.open(the_home()) as registry:
        target = load(registry, wanted)
        document = change(registry, "purge", target.app, target.timeline) if as_json else None
        plan = planned(registry, "purge", target.app, target.archived)
        carry_out(holding.purge(registry, target), yes=yes, document=document, plan=plan)
