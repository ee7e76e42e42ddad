"""`provisioner reconcile`."""

from __future__ import annotations

import click

from provisioner.cli.common_options import note
from provisioner.cli.context import apps_meant, json_option, looking, print_json, the_home
from provisioner.cli.terminal import TERMINAL
from provisioner.core.clock import now_ms
from provisioner.core.counts import counted
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App
from provisioner.core.naming import shown
from provisioner.operations.reconcile_now import AppResult, each_app, must_all_be_done, must_be_deployed, run_whole
from provisioner.reconcile import controller
from provisioner.reconcile.plan.description import describe
from provisioner.registry import queries
from provisioner.registry.store import Registry


@click.command()
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the app for the current directory, or all.")
@click.option("--all", "everything", is_flag=True, help="Every app.")
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@json_option
def reconcile(slug: str | None, everything: bool, dry_run: bool, as_json: bool) -> None:
    """Bring databases in line with the refs, once."""
    with looking(dry_run), Registry.open(the_home()) as registry:
        apps = apps_meant(registry, slug, everything)
        if dry_run:
            _print_plans(registry, apps, as_json)
            return
        results = each_app(apps, lambda app: _reconciled(registry, app))
        if as_json:
            print_json([_document(result) for result in results])
        else:
            _say(results)
        must_all_be_done(results, TERMINAL)


def _document(result: AppResult[int]) -> dict[str, object]:
    error = None if result.error is None else str(result.error)
    return {"app": result.app.slug, "actions": result.value, "error": error}


def _reconciled(registry: Registry, app: App) -> int:
    """The number of actions taken. Raises ProvisionerError if one failed."""
    outcome = run_whole(registry, app, "reconcile", TERMINAL)
    for problem in outcome.problems:
        TERMINAL.say(f"provisioner: {shown(problem)}")
    if failed := queries.failed(registry, app.id):
        first = failed[0]
        raise ProvisionerError(
            f"{len(failed)} of the databases could not be provisioned; {first.name}: {first.error}",
            "Resolve this, then run: provisioner database fix --all",
        )
    if outcome.problems:
        raise ProvisionerError(
            f"{counted(len(outcome.problems), 'step')} could not be finished",
            "Resolve this, then run: provisioner reconcile",
        )
    must_be_deployed(app, queries.undeployed(registry, app.id))
    return outcome.actions


def _say(results: list[AppResult[int]]) -> None:
    for result in results:
        count = result.value
        if count is not None:
            words = counted(count, "change") if count else "no change"
            note(f"{result.app.slug}: {words}")


def _print_plans(registry: Registry, apps: list[App], as_json: bool) -> None:
    results = each_app(apps, lambda app: controller.preview(registry, app, now_ms()).actions)
    actions = [{"app": result.app.slug, **describe(action)} for result in results for action in result.value or ()]
    if as_json:
        print_json(actions)
    for action in actions if not as_json else ():
        why = ": ".join(part for part in (action["cause"], action["error"]) if part)
        cause = f" ({why})" if why else ""
        click.echo(shown(f"{action['app']}: {action['action']} {action['timeline']}{cause}"))
    must_all_be_done(results, TERMINAL)
    if not actions and not as_json:
        click.echo("Nothing to do")
