"""`provisioner timeline show`: one of them."""

from __future__ import annotations

import os

import click

from provisioner.cli import view
from provisioner.cli.finding import timeline_meant
from provisioner.cli.shared import json_option, print_json, the_home
from provisioner.errors import NotResolved
from provisioner.naming import shown
from provisioner.registry.store import Registry


@click.command()
@click.argument("name", required=False)
@click.option("--app", "slug", metavar="APP", help="The app. Default: the one whose checkout this is.")
@json_option
def show(name: str | None, slug: str | None, as_json: bool) -> None:
    """One timeline with its databases. NAME is a branch or a timeline; default: that of the branch checked out here."""
    with Registry.open(the_home()) as registry:
        app, found = timeline_meant(registry, name, slug)
        wanted = os.fsdecode(found.name)
        documents = view.timelines(registry, app)
    document = next((item for item in documents if item["timeline"] == wanted), None)
    if document is None:
        raise NotResolved(f"timeline {wanted!r} is gone, and so is its data", "See 'provisioner status'")
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        if key != "databases" and value is not None:
            click.echo(shown(f"{key}: {value}"))
    for database in document["databases"]:
        why = f": {database['error']}" if database["error"] else ""
        click.echo(shown(f"  {database['name']}  {database['instance']}  {database['status']}{why}"))
