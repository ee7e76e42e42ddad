"""`provisioner dashboard`: a way into the dashboard of the server that is up."""

from __future__ import annotations

import webbrowser

import click

from provisioner.cli.context import the_home
from provisioner.core.clock import now_ms
from provisioner.core.errors import NotResolved
from provisioner.dashboard.web import login_codes
from provisioner.engines.server_endpoint import served
from provisioner.registry.store import Registry


@click.command()
@click.option("--print", "only_print", is_flag=True, help="Print the link, and open no browser.")
@click.option("--public", is_flag=True, help="With the address that the server has for other machines.")
def dashboard(only_print: bool, public: bool) -> None:
    """Open the dashboard in a browser, logged in by a link that works once, within ten minutes.

    The server has to be up: 'provisioner serve' or 'provisioner up'.
    """
    home = the_home()
    Registry.open(home).close()  # which asks whether it is this home that the server is of
    found = served(home)
    if found is None:
        raise NotResolved(f"no server is up for {home.path}", "Start it with 'provisioner serve' or 'provisioner up'")
    _, far, near = found
    link = login_codes.link(far if public else near, login_codes.make(home, now_ms()))
    if only_print or not webbrowser.open(link):
        click.echo(link)
