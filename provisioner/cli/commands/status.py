"""`provisioner status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from provisioner.cli.context import json_option, print_json, the_home
from provisioner.cli.selectors import Wanted, filtered, target_argument
from provisioner.core.naming import shown
from provisioner.operations import documents as view
from provisioner.operations.instance.moves_in_progress import moves_under_way
from provisioner.registry.store import Registry

if TYPE_CHECKING:
    from rich.table import Table


PIPED_WIDTH = 500


@click.command()
@target_argument()
@click.option("--all", "everything", is_flag=True, help="Every app.")
@click.option("--watch", "keep_on", is_flag=True, help="Redraw every second until interrupted.")
@json_option
def status(wanted: Wanted, everything: bool, keep_on: bool, as_json: bool) -> None:
    """Every timeline with its databases, statuses, sizes and ages; with a TARGET or selectors, only those."""
    with Registry.open(the_home()) as registry:
        if as_json:
            print_json(_documents(registry, wanted, everything))
        elif keep_on:
            _redraw(registry, wanted, everything)
        else:
            from rich.console import Console

            console = Console()
            if not console.is_terminal:
                console = Console(width=PIPED_WIDTH)  # for a file or a pipe nothing is folded
            console.print(_table(_documents(registry, wanted, everything)))
            for move in moves_under_way(registry):
                click.echo(shown(f"instance {move.instance.slug} {move.text}"))


def _documents(registry: Registry, wanted: Wanted, everything: bool) -> list[view.Document]:
    return filtered(registry, wanted, everything)


def _redraw(registry: Registry, wanted: Wanted, everything: bool) -> None:
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        while True:
            live.update(_table(_documents(registry, wanted, everything)), refresh=True)
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
