"""`provisioner status`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from provisioner.cli.context import apps_meant, json_option, print_json, the_app, the_home
from provisioner.core.errors import NotResolved, UsageError
from provisioner.core.model import App
from provisioner.core.naming import shown, timeline_name
from provisioner.operations import documents as view
from provisioner.operations.moves_in_progress import moves_under_way
from provisioner.registry.queries import timeline_called
from provisioner.registry.store import Registry

if TYPE_CHECKING:
    from rich.table import Table


PIPED_WIDTH = 500


@click.command()
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the one whose checkout this is, else all.")
@click.option("--all", "everything", is_flag=True, help="Every app.")
@click.option("--branch", metavar="BRANCH", help="Only this branch's timeline.")
@click.option(
    "--timeline", metavar="TIMELINE", help="Only this timeline: production, git-branch/NAME or preview/COMMIT."
)
@click.option("--watch", "keep_on", is_flag=True, help="Redraw every second until interrupted.")
@json_option
def status(
    slug: str | None, everything: bool, branch: str | None, timeline: str | None, keep_on: bool, as_json: bool
) -> None:
    """Every timeline with its databases, statuses, sizes and ages."""
    if branch is not None and timeline is not None:
        raise UsageError("--branch and --timeline cannot be used together", "Choose one")
    if everything and (branch is not None or timeline is not None):
        raise UsageError("--all cannot be used with --branch or --timeline", "Name the app: --app APP")
    with Registry.open(the_home()) as registry:

        def documents() -> list[view.Document]:
            if branch is None and timeline is None:
                return _documents(registry, slug, everything)
            return [_one(registry, the_app(registry, slug), branch, timeline)]

        if as_json:
            print_json(documents())
        elif keep_on:
            _redraw(documents)
        else:
            from rich.console import Console

            console = Console()
            if not console.is_terminal:
                console = Console(width=PIPED_WIDTH)  # for a file or a pipe nothing is folded
            console.print(_table(documents()))
            for move in moves_under_way(registry):
                click.echo(shown(f"instance {move.instance.slug} {move.text}"))


def _documents(registry: Registry, slug: str | None, everything: bool) -> list[view.Document]:
    return [document for app in apps_meant(registry, slug, everything) for document in view.timelines(registry, app)]


def _one(registry: Registry, app: App, branch: str | None, timeline: str | None) -> view.Document:
    name = os.fsencode(branch if timeline is None else timeline)  # type: ignore[arg-type]
    if timeline is None:
        name = timeline_name(name, production=name == app.production)
    found = timeline_called(registry, app.id, name)
    document = view.timeline(registry, app, found) if found is not None else None
    if document is None:
        raise NotResolved(f"app {app.slug!r} has no timeline {shown(name)!r}", "See: provisioner status")
    return document


def _redraw(documents: Callable[[], list[view.Document]]) -> None:
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        while True:
            live.update(_table(documents()), refresh=True)
            time.sleep(1)


_STYLES = {"connected": "green", "error": "red", "archived": "dim", "provisioning": "yellow", "pending": "yellow"}


def _table(documents: list[view.Document]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    several = len({database["instance"] for document in documents for database in document["databases"]}) > 1
    for title in ("APP", "TIMELINE", *(["INSTANCE"] if several else []), "STATUS", "DATABASE"):
        table.add_column(title, overflow="fold")
    table.add_column("SIZE", justify="right")
    table.add_column("AGE", justify="right")
    if not documents:
        table.add_row("no timelines yet: run 'provisioner init' in a repository", "", "", "", "", "")
    for document in documents:
        for database in document["databases"] or [None]:
            state, error = _state(document, database)
            style = _STYLES.get(state, "")
            name = database["name"] if database else "none assigned"
            if database and database["shared_from"]:
                name += f" (shared from {database['shared_from']})"
            if database and database["shared_by"]:
                name += f" (shared by {', '.join(database['shared_by'])})"
            cells = [
                (document["app"], ""),
                (document["timeline"], ""),
                *([(database["instance"] if database else "", "")] if several else []),
                (state + error, style),
                (name, ""),
                (view.size_text(database["size"]) if database else "", ""),
                (_age(database["created_at"]) if database else "", ""),
            ]
            table.add_row(*(Text(shown(cell), style=how) for cell, how in cells))
    return table


def retries(database: view.Document) -> str:
    """How often it was tried, and when it is tried again without being asked."""
    if not database["attempts"]:
        return ""
    tried = "once" if database["attempts"] == 1 else f"{database['attempts']} times"
    return f" (tried {tried}{', again at ' + database['retry_at'] if database['retry_at'] else ''})"


def _state(document: view.Document, database: view.Document | None) -> tuple[str, str]:
    """The status of a row, and what is to be said of it: of its database, else of the timeline's pre-deploy command."""
    if database is None:
        return document["status"], ""
    deploy = document["pre_deploy"]
    if database["status"] == "connected" and deploy and deploy["state"] != "succeeded":
        return document["status"], f": {deploy['error'] or _why_not_yet(deploy)}"
    return database["status"], f": {database['error']}{retries(database)}" if database["error"] else ""


def _why_not_yet(deploy: view.Document) -> str:
    """What keeps a pre-deploy command, if somebody has tried to run it."""
    run = deploy["run"]
    tried = f": {run['detail']}" if deploy["state"] == "waiting" and run and run["detail"] else ""
    return f"its pre-deploy command is {deploy['state']}{tried}"


def _age(created_at: str) -> str:
    from datetime import UTC, datetime

    seconds = (datetime.now(UTC) - datetime.fromisoformat(created_at)).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"
