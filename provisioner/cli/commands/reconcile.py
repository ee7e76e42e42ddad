"""`provisioner reconcile`."""

from __future__ import annotations

import click

from provisioner.cli.common_options import note
from provisioner.cli.context import apps_meant, json_option, looking, print_json, the_home
from provisioner.cli.terminal import TERMINAL
from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError, summary
from provisioner.core.model import App
from provisioner.core.naming import shown
from provisioner.operations.reconcile_now import must_be_deployed, run_whole
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
        done: list[dict[str, object]] = []
        failures: list[ProvisionerError] = []
        for app in apps:
            try:
                done.append({"app": app.slug, "actions": _reconciled(registry, app), "error": None})
            except Exception as error:  # any failure of one app: the others are reconciled all the same
                failures.append(_of_app(app, error))
                done.append({"app": app.slug, "actions": None, "error": str(failures[-1])})
        if as_json:
            print_json(done)
        else:
            _say(done)
        for failure in failures[:-1]:
            TERMINAL.say(f"provisioner: {failure}")
        if failures:
            raise failures[-1]


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
            f"{len(outcome.problems)} steps could not be finished",
            "Resolve this, then run: provisioner reconcile",
        )
    must_be_deployed(app, queries.undeployed(registry, app.id))
    return outcome.actions


def _say(done: list[dict[str, object]]) -> None:
    for item in done:
        count = item["actions"]
        if count is not None:
            words = "no change" if not count else "1 change" if count == 1 else f"{count} changes"
            note(f"{item['app']}: {words}")


def _of_app(app: App, error: Exception) -> ProvisionerError:
    """The failure, with the app's name."""
    if not isinstance(error, ProvisionerError):
        return ProvisionerError(f"app {app.slug}: {summary(error)}", "Run: provisioner doctor")
    named = ProvisionerError(f"app {app.slug}: {error.message}", error.hint)
    named.exit_code = error.exit_code
    return named


def _print_plans(registry: Registry, apps: list[App], as_json: bool) -> None:
    actions = [
        {"app": app.slug, **describe(action)}
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
