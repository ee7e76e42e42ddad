"""`provisioner instance`: where databases are stored."""

from __future__ import annotations

import click

from provisioner.cli.commands.instance.allowance_options import allowance_options
from provisioner.cli.commands.instance.delete import delete, recover
from provisioner.cli.commands.instance.edit import edit
from provisioner.cli.commands.instance.move import move
from provisioner.cli.commands.instance.start_stop import start, stop
from provisioner.cli.commands.instance.storage_options import where_options
from provisioner.cli.commands.instance.test import test
from provisioner.cli.context import json_option, print_json, the_home
from provisioner.cli.selectors import object_argument
from provisioner.cli.terminal import carry_out
from provisioner.core.allowance import AllowanceChange
from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.model import Instance
from provisioner.core.naming import shown
from provisioner.engines.catalog import ENGINES
from provisioner.engines.protocol.engine import Where
from provisioner.operations import documents as view
from provisioner.operations import instances
from provisioner.operations.instance.health import lines, standing
from provisioner.operations.instance.moves_in_progress import moves_under_way
from provisioner.operations.instances import find
from provisioner.registry.home.observed_time import recoverable
from provisioner.registry.instances import Deleted, databases_of
from provisioner.registry.store import Registry


@click.group()
def instance() -> None:
    """Manage instances: where databases are stored."""


for _command in (test, edit, move, delete, recover, start, stop):
    instance.add_command(_command)


@instance.command()
@click.argument("slug")
@click.option("--engine", type=click.Choice(list(ENGINES)), default="deno-kv", show_default=True)
@where_options("Where to store. Default: in the home directory.")
@allowance_options
@json_option
def add(slug: str, engine: str, where: Where, allowed: AllowanceChange, as_json: bool) -> None:
    """Add an instance.

    Without --url, deno-kv stores in files, and postgres starts a server of its own.
    """
    slug = instances.parse_name(slug)
    with Registry.open(the_home(), create=True) as registry:
        proposal = instances.add(registry, slug, engine, where, allowed)
        carry_out(proposal, document=(lambda _: instance_document(registry, find(registry, slug))) if as_json else None)


def instance_document(registry: Registry, instance: Instance) -> view.Document:
    return {
        "id": instance.id,
        "instance": instance.slug,
        "engine": instance.engine,
        "location": instance.location,
        "apps": [app for name, app in registry.assignments() if name == instance.slug],
        "created_at": rfc3339(instance.created_at),
    }


@instance.command(name="list")
@click.option("--deleted", "gone", is_flag=True, help="Those that were deleted and can be recovered.")
@json_option
def list_instances(gone: bool, as_json: bool) -> None:
    """List instances with their engine, location, and apps."""
    with Registry.open(the_home()) as registry:
        if gone:
            documents = [_deleted(item) for item in recoverable(registry, now_ms())]
        else:
            documents = [instance_document(registry, instance) for instance in registry.instances()]
    if as_json:
        print_json(documents)
        return
    for document in documents:
        apps = ", ".join(document["apps"]) or "not assigned" if not gone else f"until {document['purge_at']}"
        click.echo(shown(f"{document['instance']}  {document['engine']}  {document['location']}  {apps}"))
        if gone and sum(other["instance"] == document["instance"] for other in documents) > 1:
            click.echo(f"  id: {document['id']}, deleted at {document['deleted_at']}")
        if gone and document["backup"]:
            click.echo(shown(f"  backup: {document['backup']}"))


def _deleted(item: Deleted) -> view.Document:
    return {
        "id": item.instance.id,
        "instance": item.instance.slug,
        "engine": item.instance.engine,
        "location": item.instance.location,
        "deleted_at": rfc3339(item.deleted_at),
        "purge_at": rfc3339(item.purge_at),
        "backup": item.backup,
    }


@instance.command()
@object_argument("slug", "instance", required=True)
@json_option
def show(slug: str, as_json: bool) -> None:
    """Show an instance and its databases.

    Of a server that others follow: which, how far behind, and on how many of them a write lies once it is acknowledged.
    """
    with Registry.open(the_home()) as registry:
        found = find(registry, slug)
        document = {**instance_document(registry, found), **standing(found)}
        under_way = next((each for each in moves_under_way(registry) if each.instance.id == found.id), None)
        document["moving"] = under_way and {
            "to": found.moving_location,
            "moved": under_way.moved,
            "total": under_way.total,
            "going_on": under_way.going_on,
            "text": f"{slug} {under_way.text}",
        }
        mine = {database.id for database in databases_of(registry, found.id)}
        document["databases"] = [
            database
            for app in registry.apps()
            for database in view.databases(registry, app)
            if database["id"] in mine and database["shared_from"] is None
        ]
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
        size = "-" if database["size"] is None else f"{database['size']} bytes"
        words = (database["app"], database["timeline"], database["name"], database["status"], size)
        written = f"written {database['written_at']}" if database["written_at"] else "never written"
        click.echo(shown(f"  {'  '.join(words)}  {written}"))
