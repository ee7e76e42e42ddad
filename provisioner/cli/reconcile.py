"""`provisioner reconcile`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

import click

from provisioner.cli.shared import apps_meant, json_option, print_json, the_home
from provisioner.clock import now_ms
from provisioner.errands import do_all
from provisioner.errors import ProvisionerError
from provisioner.model import App, Status, Timeline, deploy_status
from provisioner.naming import shown
from provisioner.reconcile import apply as applying
from provisioner.reconcile import controller
from provisioner.reconcile.outlook import Retry
from provisioner.registry.store import Registry


@click.command()
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the one whose checkout this is, else all.")
@click.option("--all", "everything", is_flag=True, help="Every app.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@json_option
def reconcile(slug: str | None, everything: bool, dry_run: bool, as_json: bool) -> None:
    """Bring every database to what the refs say, once, now; failures are tried again at once."""
    with Registry.open(the_home()) as registry:
        apps = apps_meant(registry, slug, everything)
        if dry_run:
            _print_plans(registry, apps, as_json)
            return
        done = {app.slug: run_whole(registry, app, "reconcile").actions for app in apps}
        if as_json:
            print_json([{"app": name, "actions": count} for name, count in done.items()])
        failed = [database for app in apps for database in registry.databases(app.id) if database.error]
        if failed:
            first = failed[0]
            raise ProvisionerError(
                f"{len(failed)} of the databases could not be provisioned; {first.name}: {first.error}",
                "Mend that, then run: provisioner database fix --all",
            )
        for app in apps:
            must_be_deployed(app, registry.timelines(app.id))


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


def run_whole(
    registry: Registry, app: App, cause: str, *, retry: Retry = True, lines: bool = False
) -> controller.Outcome:
    """Reconcile one app, and run the commands that its timelines wait for."""
    outcome = run(registry, app, cause, retry=retry, lines=lines)
    do_all(registry, app, cause, say=lambda line: click.echo(line, err=True), retry=retry)
    return outcome


def must_be_deployed(app: App, timelines: Iterable[Timeline]) -> None:
    """Raises ProvisionerError where the pre-deploy command has failed on one of the timelines."""
    for timeline in timelines:
        if timeline.gone_at is None and deploy_status(app, timeline) is Status.ERROR:
            name = os.fsdecode(timeline.name)
            raise ProvisionerError(
                f"timeline {name!r} is in error: {timeline.failure}",
                f"Mend that and push it, or run it again: provisioner timeline fix {name}",
            )


def run(registry: Registry, app: App, cause: str, *, retry: Retry = True, lines: bool = False) -> controller.Outcome:
    """Reconcile one app with progress on a terminal; elsewhere with a line for each step where `lines` are wanted."""
    if not sys.stderr.isatty():
        said = _in_lines(app) if lines else None
        return controller.reconcile(registry, app, now_ms(), cause, retry=retry, progress=said)
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:.0f}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, object] = {}

        def advance(verb: str, count: int) -> None:
            if verb not in tasks:
                tasks[verb] = progress.add_task(f"{app.slug}: {verb}", total=None)
            progress.advance(tasks[verb], count)  # type: ignore[arg-type]

        return controller.reconcile(registry, app, now_ms(), cause, retry=retry, progress=advance)


def _in_lines(app: App) -> applying.Progress:
    done: dict[str, int] = {}

    def advance(verb: str, count: int) -> None:
        done[verb] = done.get(verb, 0) + count
        click.echo(f"{app.slug}: {_STEPS.get(verb, verb)} {done[verb]} databases", err=True)

    return advance


_STEPS = {"ensure": "provisioned", "archive": "archived", "purge": "deleted"}
