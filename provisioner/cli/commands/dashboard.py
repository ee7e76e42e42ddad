"""`provisioner dashboard`: a link that logs in to the dashboard of the running server."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from provisioner.cli.context import json_option, say, the_home
from provisioner.core.clock import now_ms
from provisioner.core.errors import NotResolved
from provisioner.dashboard.web import login_codes
from provisioner.engines.server_endpoint import served
from provisioner.registry.store import Registry


@click.command()
@click.option(
    "--print",
    "only_print",
    is_flag=True,
    help="Print a link instead, as --json does. It works once, within ten minutes.",
)
@click.option("--public", is_flag=True, help="Use the address that the server has for other machines.")
@json_option
def dashboard(only_print: bool, public: bool, as_json: bool) -> None:
    """Open the dashboard in a browser, already logged in.

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
    Registry.open(home).close()  # raises if the server belongs to another home
    _, far, near = found
    base = far if public else near
    if not (only_print or as_json):
        path = login_codes.handed(home, base, now_ms())
        if webbrowser.open(Path(path).as_uri()):
            return
    link = login_codes.link(base, login_codes.make(home, now_ms()))
    say(link, {"url": link} if as_json else None)
