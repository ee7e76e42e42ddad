"""`provisioner instance`: where databases are stored."""

from __future__ import annotations

import click

from provisioner.cli.commands.instance import documents
from provisioner.cli.commands.instance.allowance_options import allowance_options
from provisioner.cli.commands.instance.delete import delete, recover
from provisioner.cli.commands.instance.edit import edit
from provisioner.cli.commands.instance.move import move
from provisioner.cli.commands.instance.start_stop import start, stop
from provisioner.cli.commands.instance.storage_options import where_options
from provisioner.cli.commands.instance.test import test
from provisioner.cli.context import json_option, looks, print_json, the_app, the_home
from provisioner.cli.groups import AliasedGroup
from provisioner.cli.listing import ListOptions, list_options, print_list
from provisioner.cli.selectors import object_argument
from provisioner.cli.terminal import carry_out
from provisioner.core.allowance import AllowanceChange
from provisioner.core.clock import now_ms
from provisioner.core.naming import shown
from provisioner.engines.catalog import ENGINES
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.operations.documents import size_text
from provisioner.operations.instance import addition
from provisioner.operations.instance import names as instances
from provisioner.operations.instance.health import lines
from provisioner.operations.instance.names import find
from provisioner.registry.home.observed_time import recoverable
from provisioner.registry.store import Registry


@click.group(cls=AliasedGroup, aliases={"set": "edit", "remove": "delete"})
def instance() -> None:
    """Manage instances: where databases are stored."""


for _command in (test, edit, move, delete, recover, start, stop):
    instance.add_command(_command)


@instance.command()
@click.argument("slug", metavar="NAME")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="deno-kv", show_default=True)
@where_options("Where to store. Default: in the home directory.")
@allowance_options
@json_option
def add(slug: str, engine: str, where: StorageTarget, allowed: AllowanceChange, as_json: bool) -> None:
    """Add an instance.

    Without --url, deno-kv stores files in a directory, and postgres starts an embedded server.
    """
    slug = instances.parse_name(slug)
    with Registry.open(the_home(), create=True) as registry:
        proposal = addition.add(registry, slug, engine, where, allowed)
        document = (lambda _: documents.listed(registry, find(registry, slug))) if as_json else None
        carry_out(proposal, document=document)


@instance.command(name="list")
@click.option("--deleted", "gone", is_flag=True, help="List deleted instances that can be recovered.")
@click.option("--app", "slug", metavar="APP", help="List the instances of this app. Default: all.")
@list_options
@looks
def list_instances(gone: bool, slug: str | None, listing: ListOptions) -> None:
    """List instances with their engine, location, and apps."""
    with Registry.open(the_home()) as registry:
        if gone:
            deleted = [documents.deleted(item) for item in recoverable(registry, now_ms())]
            print_list(deleted, documents.DELETED_LAYOUT, listing)
            return
        mine = registry.assigned(the_app(registry, slug).id) if slug is not None else registry.instances()
        print_list([documents.listed(registry, item) for item in mine], documents.LAYOUT, listing)


@instance.command()
@object_argument("slug", "instance", required=True)
@json_option
@looks
def show(slug: str, as_json: bool) -> None:
    """Show an instance and its databases.

    For a server with standbys, it shows them, their lag, and on how many of them a write is stored when acknowledged.
    """
    with Registry.open(the_home()) as registry:
        document = documents.whole(registry, find(registry, slug))
    if as_json:
        print_json(document)
        return
    for key in ("instance", "engine", "location"):
        click.echo(shown(f"{key}: {document[key]}"))
    if document["moving"]:
        click.echo(shown(document["moving"]["text"]))
    for line in lines(document):
        click.echo(shown(line))
    click.echo(shown(f"apps: {', '.join(document['apps']) or 'not assigned'}"))
    for database in document["databases"]:
        size = size_text(database["size"])
        words = (database["app"], database["timeline"], database["name"], database["status"], size)
        written = f"written {database['written_at']}" if database["written_at"] else "never written"
        click.echo(shown(f"  {'  '.join(words)}  {written}"))
