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
from provisioner.core.naming import SHORT_REVISION, shown
from provisioner.hosting.log_reading import SOURCES, LogLine, LogTail, last
from provisioner.registry.store import Registry

LOOK_SECONDS = 0.1


@click.command()
@target_argument(options=TIMELINE)
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they come, until Ctrl-C.")
@click.option("--source", "sources", multiple=True, type=click.Choice(SOURCES), help="Only this; may be repeated.")
@click.option(
    "--limit", default=100, show_default=True, type=click.IntRange(0), metavar="N", help="At most this many lines."
)
@json_option
def logs(wanted: NamedTarget, follow: bool, sources: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Show what a timeline's app, builds, and commands print.

    TARGET is a branch or a timeline; by default, the branch that is checked out here.
    """
    with Registry.open(the_home()) as registry:
        app, timeline = load_timeline(registry, wanted)
        tail = LogTail(registry, app, timeline, sources) if follow else None
        for line in last(registry, app, timeline, sources, limit) if limit else ():
            _print(line, as_json)
        with suppress(KeyboardInterrupt):
            while tail is not None:
                for line in tail.lines():
                    _print(line, as_json)
                time.sleep(LOOK_SECONDS)


def _print(line: LogLine, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(line)))
    else:
        click.echo(shown(f"{line.revision[:SHORT_REVISION]} {line.source}: {line.text}"))
