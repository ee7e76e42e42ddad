"""`provisioner dashboard`: a link that logs in to the dashboard of the running server."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from provisioner.cli.context import json_option, say, the_app, the_home
from provisioner.cli.selectors import NamedTarget, target_argument
from provisioner.cli.targets import load
from provisioner.core.clock import now_ms
from provisioner.core.errors import NotResolved
from provisioner.dashboard.web import login_codes
from provisioner.engines.server_endpoint import served
from provisioner.registry.store import Registry


@click.command()
@target_argument()
@click.option(
    "--print",
    "only_print",
    is_flag=True,
    help="Print a link instead, as --json does. It works once, within ten minutes.",
)
@click.option("--public", is_flag=True, help="Use the address that the server has for other machines.")
@json_option
def dashboard(wanted: NamedTarget, only_print: bool, public: bool, as_json: bool) -> None:
    """Open the dashboard in a browser, already logged in.

    With TARGET it opens at the page of that timeline or database; with --app alone, at the app's.

    The server must be running: 'provisioner serve' or 'provisioner up'. The browser gets a file that only you can read, which
    leads to the dashboard once, within a minute. If the browser cannot read it (some sandboxes), use --print.

    'provisioner token list' shows who is logged in, 'provisioner token revoke ID' ends a session.
    """
    home = the_home()
    found = served(home)
    if found is None:
        raise NotResolved(
            f"no server is running for {home.path}", "Start it with 'provisioner serve' or 'provisioner up'"
        )
    with Registry.open(home) as registry:  # raises if the server belongs to another home
        page = _page(registry, wanted)
    _, far, near = found
    base = far if public else near
    if not (only_print or as_json):
        path = login_codes.handed(home, base, now_ms(), page)
        if webbrowser.open(Path(path).as_uri()):
            return
    link = login_codes.link(base, login_codes.make(home, now_ms()), page)
    say(link, {"url": link} if as_json else None)


def _page(registry: Registry, wanted: NamedTarget) -> str:
    """The path of a target's page; empty for the first page."""
    if not wanted.narrowed:
        return f"/apps/{the_app(registry, wanted.selectors.app).slug}" if wanted.selectors.app else ""
    target = load(registry, wanted)
    only = target.own[0] if target.narrowed and len(target.own) == 1 else None
    return f"/databases/{only.id}" if only else f"/timelines/{target.timeline.id}"
