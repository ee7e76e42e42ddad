"""`provisioner timeline list`, `protect`, `unprotect` and `expire`: how long a timeline is kept."""

from __future__ import annotations

import os
from dataclasses import replace

import click

from provisioner import view
from provisioner.cli.copies import app_option
from provisioner.cli.finding import timeline_meant
from provisioner.cli.reconcile import run
from provisioner.cli.shared import apps_meant, json_option, print_json, the_home
from provisioner.clock import now_ms, rfc3339
from provisioner.errors import ProvisionerError, UsageError
from provisioner.model import App, Timeline
from provisioner.naming import shown
from provisioner.reconcile.locks import app_locked
from provisioner.reconcile.outlook import expires_at
from provisioner.registry.store import Registry
from provisioner.times import lasting


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
        _change(registry, app, replace(timeline, protected=True), "timeline.protect")
        click.echo(f"{shown(timeline.name)} is protected")


@click.command()
@click.argument("name", required=False)
@app_option
def unprotect(name: str | None, slug: str | None) -> None:
    """Let a timeline go as others do: where its branch is gone already, its databases are archived now."""
    with Registry.open(the_home()) as registry:
        app, timeline = timeline_meant(registry, name, slug)
        _change(registry, app, replace(timeline, protected=False), "timeline.unprotect")
        click.echo(f"{shown(timeline.name)} is not protected")


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
        if timeline.production:
            raise ProvisionerError("the production timeline never expires", "Name another")
        lasts = None if as_app else 0 if after is None else lasting(after) or 0
        if timeline.preview and as_app:
            raise ProvisionerError("a preview has a time of its own", "Say --after TIME or --never")
        changed = replace(timeline, expire_ms=lasts, active_at=now_ms())
        _change(registry, app, changed, "timeline.expire")
        at = expires_at(app, changed)
        protected = ": it is protected" if timeline.protected else ""
        click.echo(f"{shown(timeline.name)} {f'expires at {rfc3339(at)}' if at else 'does not expire'}{protected}")


def _change(registry: Registry, app: App, wanted: Timeline, action: str) -> None:
    """Save what was said of a timeline, and see to what follows from it."""
    with app_locked(registry, app), registry.change():
        current = next(item for item in registry.timelines(app.id) if item.id == wanted.id)
        said = replace(
            current,
            protected=wanted.protected,
            expire_ms=wanted.expire_ms,
            active_at=max(current.active_at, wanted.active_at),
        )
        registry.save_timelines([said])
        lasts = "" if said.expire_ms is None else f"{said.expire_ms} ms"
        registry.record(now_ms(), action, "user", app_id=app.id, timeline=os.fsdecode(said.name), detail=lasts)
    run(registry, app, action)
