"""`provisioner timeline show`, `log` and `fix`: a timeline and the runs of its pre-deploy command."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import click

from provisioner.cli.change import timeline_after
from provisioner.cli.context import json_option, looking, looks, print_json, renamed, the_home
from provisioner.cli.selectors import TIMELINE, NamedTarget, target_argument
from provisioner.cli.targets import load_timeline
from provisioner.cli.terminal import carry_out
from provisioner.core.errors import NotResolved
from provisioner.core.model import Run, RunState
from provisioner.core.naming import shown
from provisioner.jobs.follow_log import LogFollower
from provisioner.operations import documents as view
from provisioner.operations import retry
from provisioner.operations.events import history_of
from provisioner.reconcile.changes.run_records import PRE_DEPLOY
from provisioner.registry.runs import last_run, runs
from provisioner.registry.store import Registry
from provisioner.runs.process import log_path

TAIL_LINES = 20
LOOK_SECONDS = 0.1


@click.command()
@target_argument(options=TIMELINE)
@click.option("--history", is_flag=True, help="Also show the timeline's events, as 'provisioner events' does.")
@json_option
@looks
def show(wanted: NamedTarget, history: bool, as_json: bool) -> None:
    """Show a timeline, its databases, and its latest run.

    TARGET is a branch or a timeline; default: the branch checked out here.
    """
    with Registry.open(the_home()) as registry:
        app, found = load_timeline(registry, wanted)
        document = view.timeline(registry, app, found)
        happened = history_of(registry, app, found) if history else []
    if document is None:
        raise NotResolved(
            f"timeline {shown(found.name)} and its data were permanently deleted", "See: provisioner status"
        )
    if as_json:
        print_json({**document, "history": happened} if history else document)
        return
    for key, value in document.items():
        if key not in ("databases", "pre_deploy") and value not in (None, False, []):
            click.echo(shown(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}"))
    for database in document["databases"]:
        why = f": {database['error']}" if database["error"] else ""
        click.echo(shown(f"  {database['name']}  {database['instance']}  {database['status']}{why}"))
    if document["pre_deploy"]:
        _print_deploy(document["pre_deploy"])
    for event in happened:
        why = event["error"] or event["detail"] or ""
        click.echo(shown(f"  {event['at']} {event['type']} ({event['cause']}) {why}".rstrip()))


def _print_deploy(deploy: view.Document) -> None:
    run = deploy["run"]
    click.echo(shown(f"pre-deploy: {deploy['state']}" + (f": {deploy['error']}" if deploy["error"] else "")))
    if run is None:
        return
    if run["state"] != deploy["state"]:
        click.echo(shown(f"  last run: {run['state']}" + (f": {run['detail']}" if run["detail"] else "")))
    click.echo(shown(f"  {run['revision']}  {run['started_at']}  {run['log']}"))
    for line in LogFollower(run["log"]).lines(last=True)[-TAIL_LINES:]:
        click.echo(f"    {line}")


@click.command()
@target_argument(options=TIMELINE)
@click.option("--follow", "keep_on", is_flag=True, help="Continue until the command has ended.")
@json_option
def log(wanted: NamedTarget, keep_on: bool, as_json: bool) -> None:
    """Show the log of the latest pre-deploy run."""
    with looking(not keep_on), Registry.open(the_home()) as registry:
        app, found = load_timeline(registry, wanted)
        run = last_run(registry, found.id, PRE_DEPLOY)
        if run is None:
            where = os.fsdecode(found.name)
            raise NotResolved(f"no pre-deploy command has run on {where!r}", f"See: provisioner app show {app.slug}")
        _print_log(registry, run, keep_on, (lambda line: json.dumps({"run": run.id, "line": line})) if as_json else str)


def _print_log(registry: Registry, run: Run, keep_on: bool, form: Callable[[str], str]) -> None:
    tail = LogFollower(log_path(registry.home, run.id))
    while keep_on and _runs(registry, run):
        for line in tail.lines():
            click.echo(form(line))
        time.sleep(LOOK_SECONDS)
    for line in tail.lines(last=True):
        click.echo(form(line))


def _runs(registry: Registry, run: Run) -> bool:
    return any(item.id == run.id and item.state is RunState.RUNNING for item in runs(registry, run.timeline_id))


@click.command(hidden=True)
@target_argument(options=TIMELINE)
@json_option
def fix(wanted: NamedTarget, as_json: bool) -> None:
    """Retry a timeline's failed databases and pre-deploy command."""
    renamed("timeline fix", "database fix")
    with Registry.open(the_home()) as registry:
        app, found = load_timeline(registry, wanted)
        document = timeline_after(registry, app, found) if as_json else None
        carry_out(retry.timeline(registry, app, found), document=document)
