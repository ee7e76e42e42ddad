"""`provisioner reconcile`."""

from __future__ import annotations

import click

from provisioner.cli.context import apps_meant, json_option, print_json, the_home
from provisioner.cli.terminal import TERMINAL
from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App
from provisioner.core.naming import shown
from provisioner.operations.reconcile_now import must_be_deployed, run_whole
from provisioner.reconcile import controller
from provisioner.registry import queries
from provisioner.registry.store import Registry


@click.command()
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the one whose checkout this is, else all.")
@click.option("--all", "everything", is_flag=True, help="Every app.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@json_option
def reconcile(slug: str | None, everything: bool, dry_run: bool, as_json: bool) -> None:
    """Bring databases in line with the refs, once."""
    with Registry.open(the_home()) as registry:
        apps = apps_meant(registry, slug, everything)
        if dry_run:
            _print_plans(registry, apps, as_json)
            return
        done = {app.slug: run_whole(registry, app, "reconcile", TERMINAL).actions for app in apps}
        if as_json:
            print_json([{"app": name, "actions": count} for name, count in done.items()])
        failed = [database for app in apps for database in queries.failed(registry, app.id)]
        if failed:
            first = failed[0]
            raise ProvisionerError(
                f"{len(failed)} of the databases could not be provisioned; {first.name}: {first.error}",
                "Mend that, then run: provisioner database fix --all",
            )
        for app in apps:
            must_be_deployed(app, queries.undeployed(registry, app.id))


def _print_plans(registry: Registry, apps: list[App], as_json: bool) -> None:
    actions = [
        {"app": app.slug, **controller.describe(action)}
        for app in apps
        for action in controller.preview(registry, app, now_ms()).actions
    ]
    if as_json:
        print_json(actions)
        return
    for action in actions:
        why = ": ".join(part for part in (action["cause"], action["error"]) if part)
        cause = f" ({why})" if why else ""
        click.echo(shown(f"{action['app']}: {action['action']} {action['timeline']}{cause}"))
    if not actions:
        click.echo("nothing to do")
