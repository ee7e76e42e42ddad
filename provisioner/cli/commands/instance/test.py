"""`provisioner instance test`: whether databases can be stored there."""

from __future__ import annotations

import click

from provisioner.cli.context import json_option, print_json, the_home
from provisioner.cli.selectors import object_argument
from provisioner.core.errors import ProvisionerError
from provisioner.core.naming import shown
from provisioner.engines.catalog import engine_of
from provisioner.operations.instance.names import find
from provisioner.registry.store import Registry


@click.command()
@object_argument("slug", "instance", required=True)
@json_option
def test(slug: str, as_json: bool) -> None:
    """Test an instance by creating and deleting a database."""
    with Registry.open(the_home()) as registry:
        instance = find(registry, slug)
    checks = list(engine_of(instance).test(instance))
    if as_json:
        print_json([{"check": check.what, "ok": check.well, "text": check.text} for check in checks])
    for check in checks if not as_json else []:
        click.echo(shown(f"{'ok  ' if check.well else 'FAIL'} {check.what}: {check.text}"))
    failed = [check for check in checks if not check.well]
    if failed:
        raise ProvisionerError(f"instance {slug} cannot store databases: {failed[0].what}: {failed[0].text}")
