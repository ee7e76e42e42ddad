"""`provisioner open`: the URL of a timeline's app, in a browser."""

from __future__ import annotations

import os
import webbrowser
from urllib.parse import urlsplit

import click

from provisioner.cli.commands.previews import access
from provisioner.cli.commands.previews.urls import router_answers
from provisioner.cli.context import json_option, say, the_home
from provisioner.cli.options.duration import DURATION
from provisioner.cli.selectors import TIMELINE, NamedTarget, target_argument
from provisioner.cli.targets import load_timeline
from provisioner.core.durations import milliseconds
from provisioner.core.errors import NotReady, NotResolved, ProvisionerError
from provisioner.core.host_names import host_name, label_of
from provisioner.core.hosting import AppState
from provisioner.core.model import App, Timeline
from provisioner.core.naming import shown
from provisioner.hosting.apps.sites import site_of
from provisioner.hosting.dev_servers import DevServers
from provisioner.hosting.routes import LOOPBACK
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.system.router_address import address


@click.command(name="open")
@target_argument(options=TIMELINE)
@click.option("--share", type=DURATION, help="Print a link that signs in, and expires after this time, for example 7d.")
@click.option("--print", "only_print", is_flag=True, help="Print the URL instead, as --json does.")
@json_option
def open_url(wanted: NamedTarget, share: str | None, only_print: bool, as_json: bool) -> None:
    """Open a timeline's URL in a browser.

    If a dev server runs for the timeline, opens its URL. Otherwise opens the app's URL, at its custom domain if it has one.
    """
    with Registry.open(the_home()) as registry:
        app, timeline = load_timeline(registry, wanted)
        url = _url(registry, app, timeline)
        if share is not None:
            url += _sign_in(registry, app, url, milliseconds(share))
    if only_print or as_json or share is not None:
        say(url, {"url": url} if as_json else None)
    elif not webbrowser.open(url):
        raise ProvisionerError("no browser could be started", f"Open it yourself: {url}")


def _sign_in(registry: Registry, app: App, url: str, lasts_ms: int) -> str:
    host = urlsplit(url).hostname or ""
    if site_of(registry, host, address(registry.home)) is None:
        raise ProvisionerError(f"{url} is for this machine alone, so a link cannot sign in to it")
    return access.share(registry, app, host, lasts_ms)


def _url(registry: Registry, app: App, timeline: Timeline) -> str:
    home, name = registry.home, os.fsdecode(timeline.name)
    routed = router_answers(home)
    mine = [item for item in DevServers(home).running() if (item.app_id, item.timeline) == (app.id, name)]
    for server in sorted(mine, key=lambda item: not item.routed):
        return address(home).url(server.host) if server.routed and routed else f"http://{LOOPBACK}:{server.port}"
    state = hosting.hosted(registry, timeline.id)
    stopped = state is not None and state.state is AppState.STOPPED
    if hosting.run_command(registry, app.id) is None or timeline.gone_at is not None or stopped:
        raise NotResolved(
            f"no app runs for {shown(name)} of {app.slug}",
            "Start a dev server: provisioner dev -- CMD. Or let provisioner run the app: provisioner app run --command CMD",
        )
    if not routed:
        raise NotReady(f"the router of {home.path} is not running", "Start it: provisioner up")
    router = address(home)
    for claim in hosting.domains_of_timeline(registry, timeline.id):
        if claim.routed and not router.reserved(claim.name):
            return router.url(claim.name)
    label = state.label if state is not None else label_of(timeline.name)
    return router.url(host_name(app.slug, label, router.domain))
