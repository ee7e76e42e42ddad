"""`provisioner logs`: what a timeline's app and commands print."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict

import click

from provisioner.cli.context import json_option, the_home
from provisioner.cli.selectors import TIMELINE, NamedTarget, target_argument
from provisioner.cli.targets import load_timeline
from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.moments import moment
from provisioner.core.naming import SHORT_REVISION, shown
from provisioner.hosting.log_reading import SOURCES, LogLine, LogTail, last
from provisioner.registry.store import Registry

LOOK_SECONDS = 0.1
LIMIT = 100


@click.command()
@target_argument(options=TIMELINE)
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come, until Ctrl-C.")
@click.option("--source", "sources", multiple=True, type=click.Choice(SOURCES), help="Only this; may be repeated.")
@click.option(
    "--since", metavar="MOMENT", help="Show only lines since this moment: 2h (ago), '2026-12-01 14:00', or RFC 3339."
)
@click.option(
    "--limit",
    type=click.IntRange(0),
    metavar="N",
    help="Show at most the last N lines. Default: 100; with --since, all.",
)
@json_option
def logs(
    wanted: NamedTarget, follow: bool, sources: tuple[str, ...], since: str | None, limit: int | None, as_json: bool
) -> None:
    """Show what a timeline's app, builds, and commands print.

    TARGET is a branch or a timeline; by default, the branch that is checked out here.
    """
    at = 0 if since is None else moment(since, now_ms())
    most = LIMIT if since is None and limit is None else limit
    with Registry.open(the_home()) as registry:
        app, timeline = load_timeline(registry, wanted)
        tail = LogTail(registry, app, timeline, sources) if follow else None
        for line in last(registry, app, timeline, sources, most, since=at) if most != 0 else ():
            _print(line, as_json)
        with suppress(KeyboardInterrupt):
            while tail is not None:
                for line in tail.lines():
                    _print(line, as_json)
                time.sleep(LOOK_SECONDS)


def _print(line: LogLine, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(line) | {"at": rfc3339(line.at)}))
    else:
        click.echo(shown(f"{line.revision[:SHORT_REVISION]} {line.source}: {line.text}"))
