"""`provisioner database`: look at databases, mend them, archive and recover them."""

from __future__ import annotations

import importlib

import click

from provisioner.cli.commands.database.fork import fork, reset
from provisioner.cli.commands.database.snapshots import restore, snapshot
from provisioner.cli.context import apps_meant, json_option, print_json, the_home, yes_option
from provisioner.cli.terminal import carry_out
from provisioner.core.clock import rfc3339
from provisioner.core.naming import shown
from provisioner.operations import archive as holding
from provisioner.operations import documents as view
from provisioner.operations import retry
from provisioner.operations.instances import find as find_instance
from provisioner.operations.lookup import find
from provisioner.registry.store import Registry

# Each in a module of its own, which is imported when it is asked for.
_ELSEWHERE = {
    "dump": "provisioner.cli.commands.database.dump:dump",
    "load": "provisioner.cli.commands.database.dump:load",
    "diff": "provisioner.cli.commands.database.diff:diff",
    "share": "provisioner.cli.commands.database.share:share",
    "unshare": "provisioner.cli.commands.database.share:unshare",
}


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, _, name = _ELSEWHERE[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Group)
def database() -> None:
    """Databases: one per instance, app and timeline."""


for _command in (fork, reset, snapshot, restore):
    database.add_command(_command)


@database.command(name="list")
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the one whose checkout this is, else all.")
@click.option("--all", "everything", is_flag=True, help="Of every app.")
@json_option
def list_databases(slug: str | None, everything: bool, as_json: bool) -> None:
    """Every database with its timeline and status."""
    with Registry.open(the_home()) as registry:
        apps = apps_meant(registry, slug, everything)
        documents = [document for app in apps for document in view.databases(registry, app)]
    if as_json:
        print_json(documents)
        return
    several = len({document["instance"] for document in documents}) > 1
    for document in documents:
        on = f"  {document['instance']}" if several else ""
        click.echo(shown(f"{document['name']}  {document['status']}  {document['timeline']}{on}"))


@database.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """One database, and what was done to it when and why."""
    with Registry.open(the_home()) as registry:
        app, found = find(registry, name)
        document = view.database(registry, app, found)
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
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every database that is in error.")
@click.option("--instance", "slug", metavar="INSTANCE", help="With --all: only those on this instance.")
def fix(name: str | None, everything: bool, slug: str | None) -> None:
    """Try again what failed, now: making a database, or the pre-deploy command of its timeline; with --all everything.

    What goes wrong is in 'database show'.
    """
    if (name is None) == (not everything):
        raise click.UsageError("name one database, or say --all")
    if slug is not None and not everything:
        raise click.UsageError("--instance goes with --all")
    with Registry.open(the_home()) as registry:
        if slug is not None:
            carry_out(retry.instance(registry, find_instance(registry, slug)))
        elif name is None:
            carry_out(retry.everything(registry))
        else:
            carry_out(retry.database(registry, *find(registry, name)))


@database.command()
@click.argument("name")
@yes_option
def archive(name: str, yes: bool) -> None:
    """Put a database away; it is kept for the retention time and comes back with 'recover'."""
    with Registry.open(the_home()) as registry:
        carry_out(holding.archive(registry, *find(registry, name)), yes=yes)


@database.command()
@click.argument("name")
def recover(name: str) -> None:
    """Bring an archived database back. Where its branch is gone, it stays until it is archived by hand."""
    with Registry.open(the_home()) as registry:
        carry_out(holding.recover(registry, *find(registry, name)))


@database.command()
@click.argument("name")
@yes_option
def purge(name: str, yes: bool) -> None:
    """Delete an archived database for good now, with its snapshots, before its retention time is over."""
    with Registry.open(the_home()) as registry:
        carry_out(holding.purge(registry, *find(registry, name)), yes=yes)
