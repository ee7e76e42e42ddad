"""`provisioner timeline list`, `protect`, `unprotect` and `expire`: how long a timeline is kept."""

from __future__ import annotations

import click

from provisioner.cli.change import timeline_after
from provisioner.cli.context import json_option, looks, renamed, the_home
from provisioner.cli.listing import (
    ListLayout,
    ListOptions,
    list_options,
    print_list,
    with_archived,
)
from provisioner.cli.options.duration import DurationType
from provisioner.cli.selectors import ALL, TIMELINE, NamedTarget, selector_options, target_argument
from provisioner.cli.table import Column
from provisioner.cli.targets import filtered, load_timeline
from provisioner.cli.terminal import carry_out
from provisioner.core.durations import lasting
from provisioner.core.errors import UsageError
from provisioner.environment.resolve import Selectors
from provisioner.operations import retention
from provisioner.registry.store import Registry

_LAYOUT = ListLayout(
    (
        *(Column("APP", dropped=1), Column("TIMELINE"), Column("STATUS"), Column("REVISION", dropped=2)),
        Column("EXPIRES", dropped=3),
    ),
    ("app", "timeline"),
    lambda item: {
        "APP": item["app"],
        "TIMELINE": item["timeline"],
        "STATUS": item["status"],
        "REVISION": (item["revision"] or "")[:12],
        "EXPIRES": "protected" if item["protected"] else item["expires_at"] or "",
    },
    "No timelines yet. Each branch of an app gets one. To register an app, run: provisioner init",
    ("timeline", "timeline list"),
)


@click.command(name="list")
@selector_options(*ALL)
@with_archived
@list_options
@looks
def list_timelines(selectors: Selectors, everything: bool, archived: bool, listing: ListOptions) -> None:
    """List timelines with revision, status, and expiry."""
    with Registry.open(the_home()) as registry:
        wanted = NamedTarget(selectors)
        documents = filtered(registry, wanted, everything)
        print_list(documents, _LAYOUT, listing, archived=archived or everything or wanted.names_timeline)


@click.command()
@target_argument(options=TIMELINE)
@json_option
def protect(wanted: NamedTarget, as_json: bool) -> None:
    """Protect a timeline from expiry, archiving, and replacement.

    It never expires, is never archived, and 'fork' and 'reset' can't replace its data.

    TARGET is a branch or a timeline; default: the branch checked out here.
    """
    with Registry.open(the_home()) as registry:
        app, timeline = load_timeline(registry, wanted)
        carry_out(
            retention.protect(registry, app, timeline, protected=True),
            document=timeline_after(registry, app, timeline) if as_json else None,
        )


@click.command()
@target_argument(options=TIMELINE)
@json_option
def unprotect(wanted: NamedTarget, as_json: bool) -> None:
    """Remove a timeline's protection.

    If its branch is already gone, its databases are archived now.
    """
    with Registry.open(the_home()) as registry:
        app, timeline = load_timeline(registry, wanted)
        carry_out(
            retention.protect(registry, app, timeline, protected=False),
            document=timeline_after(registry, app, timeline) if as_json else None,
        )


@click.command()
@target_argument(options=TIMELINE)
@click.option(
    "--after",
    type=DurationType("never", "default"),
    help="Archive its databases this long after now or its last push; default: as the app's setting says.",
)
@click.option("--never", is_flag=True, hidden=True)
@click.option("--default", "as_app", is_flag=True, hidden=True)
@json_option
def expire(wanted: NamedTarget, after: str | None, never: bool, as_app: bool, as_json: bool) -> None:
    """Set how long a timeline is kept after its last push.

    The time starts now and restarts with every push.

    An expired timeline is archived as if its branch were gone. The next push recovers it, and so does 'provisioner database
    recover'.
    """
    if sum((after is not None, never, as_app)) != 1:
        raise UsageError("choose one: --after DURATION, --after never, or --after default")
    if never or as_app:
        renamed("--never" if never else "--default", "--after never" if never else "--after default")
    as_app, after = as_app or after == "default", None if after in ("never", "default") else after
    with Registry.open(the_home()) as registry:
        app, timeline = load_timeline(registry, wanted)
        lasts = None if as_app else 0 if after is None else lasting(after) or 0
        carry_out(
            retention.expire(registry, app, timeline, lasts),
            document=timeline_after(registry, app, timeline) if as_json else None,
        )
