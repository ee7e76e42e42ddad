"""`provisioner prune`: archive or delete what is due."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from provisioner.cli.context import apps_meant, confirm, json_option, looking, print_json, the_home, yes_option
from provisioner.cli.terminal import TERMINAL
from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.counts import counted
from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import DatabaseId
from provisioner.core.model import App, Database, Status
from provisioner.core.naming import shown
from provisioner.operations.archive import mark_for_purge
from provisioner.operations.reconcile_now import each_app, must_all_be_done, run
from provisioner.reconcile import controller
from provisioner.reconcile.apply.locks import app_locked
from provisioner.reconcile.plan.actions import Archive, Purge
from provisioner.reconcile.plan.description import describe
from provisioner.reconcile.plan.planner_context import expires_at
from provisioner.registry.instances import deleted
from provisioner.registry.shares import shares
from provisioner.registry.store import Registry

Item = dict[str, str | None]


@click.command()
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the app for the current directory, or all.")
@click.option("--all", "everything", is_flag=True, help="Every app.")
@click.option("--dry-run", is_flag=True, help="Print what is due and why, and what comes next; change nothing.")
@json_option
@yes_option
def prune(slug: str | None, everything: bool, dry_run: bool, as_json: bool, yes: bool) -> None:
    """Archive or permanently delete databases that are due.

    The daemon and every reconcile do this too, once the time has passed both by the clock and while this machine was up.
    This command goes by the clock alone, and lists first what it will do. Production and protected timelines stay.
    """
    with looking(dry_run), Registry.open(the_home()) as registry:
        apps = apps_meant(registry, slug, everything)
        found = each_app(apps, lambda app: list(_due(registry, app)))
        due = [item for result in found for item in result.value or ()]
        if dry_run:
            _print(due + [item for app in apps for item in _coming(registry, app, due)], as_json)
            must_all_be_done(found, TERMINAL)
            return
        if due and not yes:
            _print(due, False)
        if due:
            purged = sum(item["action"] == "purge" for item in due)
            confirm(f"{_both(len(due) - purged, purged, 'archive', 'permanently delete')}?", yes)
        concerned = {item["app"] for item in due}
        done = each_app((app for app in apps if app.slug in concerned), lambda app: _prune(registry, app))
        if as_json:
            print_json(due)
        elif not due and all(result.error is None for result in found):
            click.echo("Nothing to prune")
        must_all_be_done(
            [result for result in found if result.error] + [result for result in done if result.error], TERMINAL
        )
        _must_be_done(registry, due)
        if due and not as_json:
            click.echo(_both(len(due) - purged, purged, "archived", "permanently deleted"))


def _both(archived: int, purged: int, archive: str, purge: str) -> str:
    """What is done to how many databases: one sentence with these verbs, without its period."""
    parts = [(archived, archive), (purged, purge)]
    said = " and ".join(f"{verb} {counted(number, 'database')}" for number, verb in parts if number)
    return said[:1].upper() + said[1:]


def _prune(registry: Registry, app: App) -> list[Item]:
    with app_locked(registry, app):
        mark_for_purge(registry, app, _purges(registry, app))
    run(registry, app, "prune", TERMINAL, retry=False)
    return []


def _due(registry: Registry, app: App) -> Iterator[Item]:
    for action in controller.look(registry, app, now_ms(), by_the_clock=True).actions:
        if isinstance(action, Archive | Purge):
            described = describe(action)
            yield {
                "app": app.slug,
                "timeline": described["timeline"],
                "database": action.database.name,
                "id": action.database.id,
                "action": described["action"],
                "cause": described["cause"],
                "at": None,
                "error": None,
            }


def _purges(registry: Registry, app: App) -> list[Database]:
    actions = controller.look(registry, app, now_ms(), by_the_clock=True).actions
    return [action.database for action in actions if isinstance(action, Purge)]


def _coming(registry: Registry, app: App, due: list[Item]) -> Iterator[Item]:
    """What becomes due later if nothing happens until then, the next first."""
    timelines = {timeline.id: timeline for timeline in registry.timelines(app.id)}
    known = {item["id"] for item in due}
    shared = {share.database_id for share in shares(registry, app.id)}
    lost = {item.instance.id: item.purge_at for item in deleted(registry)}
    found: list[tuple[int, Item]] = []
    for database in registry.databases(app.id):
        over = lost.get(database.instance_id)
        if database.live and database.id in shared and over is None:
            continue  # stays until its hold ends
        timeline = timelines[database.timeline_id]
        if database.id in known:
            continue
        at: int | None
        if over is not None:
            at = over if database.purge_at is None else min(over, database.purge_at)
            action, cause = "purge", "its instance was deleted"
        elif database.live:
            gone = None if timeline.gone_at is None else timeline.gone_at + app.grace_ms
            at, action = gone if gone is not None and not timeline.protected else expires_at(app, timeline), "archive"
            cause = "it expires" if gone is None else "its branch is gone"
        else:
            at, action, cause = database.purge_at, "purge", "its retention period ends"
        if at is None or (over is None and (timeline.production or database.hold is not None)):
            continue
        item = {"app": app.slug, "timeline": os.fsdecode(timeline.name), "database": database.name, "id": database.id}
        found.append((at, {**item, "action": action, "cause": cause, "at": rfc3339(at), "error": None}))
    yield from (item for _, item in sorted(found, key=lambda pair: pair[0]))


def _print(items: list[Item], as_json: bool) -> None:
    if as_json:
        print_json(items)
        return
    for item in items:
        when = item["at"] or "now"
        click.echo(
            shown(f"{when}  {item['action']}  {item['app']}  {item['timeline']}  {item['database']}  ({item['cause']})")
        )
    if not items:
        click.echo("Nothing to prune, now or later")


def _must_be_done(registry: Registry, due: list[Item]) -> None:
    for item in due:
        found = registry.database(DatabaseId(str(item["id"])))
        wanted = Status.PURGED if item["action"] == "purge" else Status.ARCHIVED
        if found is not None and found.status is not wanted and found.error:
            raise ProvisionerError(
                f"{found.name}: {found.error}", f"Resolve this, then run: provisioner database fix {found.name}"
            )
