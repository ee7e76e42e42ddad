"""`provisioner timeline list`, `protect`, `unprotect` and `expire`: how long a timeline is kept."""

from __future__ import annotations

import click

from provisioner.cli.commands.database.fork import app_option
from provisioner.cli.context import apps_meant, json_option, print_json, the_home
from provisioner.cli.lookup import timeline_meant
from provisioner.cli.terminal import carry_out
from provisioner.core.durations import lasting
from provisioner.core.errors import UsageError
from provisioner.core.naming import shown
from provisioner.operations import documents as view
from provisioner.operations import retention
from provisioner.registry.store import Registry


@click.command(name="list")
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the one whose checkout this is, else all.")
@click.option("--all", "everything", is_flag=True, help="Every app.")
@json_option
def list_timelines(slug: str | None, everything: bool, as_json: bool) -> None:
    """Every timeline with its revision, its status, and until when it is kept."""
    with Registry.open(the_home()) as registry:
        documents = [item for app in apps_meant(registry, slug, everything) for item in view.timelines(registry, app)]
    if as_json:
        print_json(documents)
        return
    for document in documents:
        kept = "protected" if document["protected"] else ""
        kept = kept or (f"until {document['expires_at']}" if document["expires_at"] else "")
        parts = (document["app"], document["timeline"], document["status"], (document["revision"] or "")[:12], kept)
        click.echo(shown("  ".join(part for part in parts if part)))


@click.command()
@click.argument("name", required=False)
@app_option
def protect(name: str | None, slug: str | None) -> None:
    """Keep a timeline whatever happens: it never expires, is never archived, and nothing is put in its place.

    NAME is a branch or a timeline; default: the branch checked out here.
    """
    with Registry.open(the_home()) as registry:
        app, timeline = timeline_meant(registry, name, slug)
        carry_out(retention.protect(registry, app, timeline, protected=True))


@click.command()
@click.argument("name", required=False)
@app_option
def unprotect(name: str | None, slug: str | None) -> None:
    """Let a timeline go as others do: where its branch is gone already, its databases are archived now."""
    with Registry.open(the_home()) as registry:
        app, timeline = timeline_meant(registry, name, slug)
        carry_out(retention.protect(registry, app, timeline, protected=False))


@click.command()
@click.argument("name", required=False)
@click.option("--after", metavar="TIME", help="Its databases are archived so long after now, or its last push.")
@click.option("--never", is_flag=True, help="It does not expire, whatever its app says.")
@click.option("--default", "as_app", is_flag=True, help="As its app says, counted from now.")
@app_option
def expire(name: str | None, after: str | None, never: bool, as_app: bool, slug: str | None) -> None:
    """Say how long a timeline is kept. It begins anew with every push, and with this command.

    What has expired is archived, as if its branch were gone; the next push brings it back, and so does
    'provisioner database recover'.
    """
    if sum((after is not None, never, as_app)) != 1:
        raise UsageError("say one of --after TIME, --never, --default")
    with Registry.open(the_home()) as registry:
        app, timeline = timeline_meant(registry, name, slug)
        lasts = None if as_app else 0 if after is None else lasting(after) or 0
        carry_out(retention.expire(registry, app, timeline, lasts))
