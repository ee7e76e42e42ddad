"""`provisioner database`: look at databases, mend them, archive and recover them."""

from __future__ import annotations

import importlib
from dataclasses import replace

import click

from provisioner import view
from provisioner.cli.copies import fork, reset, shared_by
from provisioner.cli.finding import find, timeline_of
from provisioner.cli.reconcile import must_be_deployed, run, run_whole
from provisioner.cli.shared import apps_meant, confirm, json_option, print_json, the_home, yes_option
from provisioner.cli.snapshots import restore, snapshot
from provisioner.clock import now_ms, rfc3339
from provisioner.deploying import forget_failures
from provisioner.errors import ProvisionerError
from provisioner.model import App, Database, Hold, Status
from provisioner.naming import shown
from provisioner.reconcile.locks import app_locked
from provisioner.registry.shares import shares
from provisioner.registry.store import Registry

# Each in a module of its own, which is imported when it is asked for.
_ELSEWHERE = {
    "dump": "provisioner.cli.dump:dump",
    "load": "provisioner.cli.dump:load",
    "diff": "provisioner.cli.diff:diff",
    "share": "provisioner.cli.share:share",
    "unshare": "provisioner.cli.share:unshare",
}


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, _, name = _ELSEWHERE[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Group)
def database() -> None:
    """Databases: one per instance, app and timeline."""


for _command in (fork, reset, snapshot, restore):
    database.add_command(_command)


@database.command(name="list")
@click.option("--app", "slug", metavar="APP", help="Only this app. Default: the one whose checkout this is, else all.")
@click.option("--all", "everything", is_flag=True, help="Of every app.")
@json_option
def list_databases(slug: str | None, everything: bool, as_json: bool) -> None:
    """Every database with its timeline and status."""
    with Registry.open(the_home()) as registry:
        apps = apps_meant(registry, slug, everything)
        documents = [document for app in apps for document in view.databases(registry, app)]
    if as_json:
        print_json(documents)
        return
    several = len({document["instance"] for document in documents}) > 1
    for document in documents:
        on = f"  {document['instance']}" if several else ""
        click.echo(shown(f"{document['name']}  {document['status']}  {document['timeline']}{on}"))


@database.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """One database, and what was done to it when and why."""
    with Registry.open(the_home()) as registry:
        app, found = find(registry, name)
        mine = (item for item in view.databases(registry, app) if item["id"] == found.id)
        document = next(item for item in mine if item["shared_from"] is None)
        document["history"] = [
            {"at": rfc3339(at), "action": action, "cause": cause, "detail": detail}
            for at, action, cause, detail in registry.events(found.id)
        ]
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        if key != "history" and value not in (None, []):
            click.echo(shown(f"{key}: {', '.join(value) if isinstance(value, list) else value}"))
    for event in document["history"]:
        click.echo(shown(f"  {event['at']} {event['action']} ({event['cause']}) {event['detail']}".rstrip()))


@database.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every database that is in error.")
def fix(name: str | None, everything: bool) -> None:
    """Try again what failed, now: making a database, or the pre-deploy command of its timeline; with --all everything.

    What goes wrong is in 'database show'.
    """
    if (name is None) == (not everything):
        raise click.UsageError("name one database, or say --all")
    with Registry.open(the_home()) as registry:
        if name is None:
            apps = registry.apps()
            troubles = [trouble for app in apps if (trouble := _fix_all(registry, app))]
            left = [database for app in apps for database in registry.databases(app.id) if database.error]
        else:
            app, found = find(registry, name)
            apps = [app]
            forget_failures(registry, app, [timeline_of(registry, app, found)], "user")
            run_whole(registry, app, "fix", retry=frozenset([found.id]))
            left = [database for database in registry.databases(app.id) if database.error and database.id == found.id]
        if name is None and troubles:
            raise troubles[0]
        if left:
            raise ProvisionerError(
                f'database "{left[0].name}" is still in error: {left[0].error}',
                f"Mend that, then run: provisioner database fix {left[0].name}",
            )
        for app in apps:
            timelines = registry.timelines(app.id) if name is None else [timeline_of(registry, app, found)]
            must_be_deployed(app, timelines)
        click.echo("fixed")


def _fix_all(registry: Registry, app: App) -> ProvisionerError | None:
    """What keeps an app from being looked at, or its commands from being tried: the other apps are not to wait for it."""
    try:
        forget_failures(registry, app, registry.timelines(app.id), "user")
        run_whole(registry, app, "fix")
    except ProvisionerError as error:
        return error
    return None


@database.command()
@click.argument("name")
@yes_option
def archive(name: str, yes: bool) -> None:
    """Put a database away; it is kept for the retention time and comes back with 'recover'."""
    with Registry.open(the_home()) as registry:
        app, found = find(registry, name)
        timeline = timeline_of(registry, app, found)
        if timeline.protected:
            raise ProvisionerError(
                f"{found.name} is of a protected timeline, which is never archived",
                f"If it is to be: provisioner timeline unprotect {shown(timeline.name)}",
            )
        users = shared_by(registry, app, found)
        confirm(f"Archive {found.name}?{users} Apps on {app.slug} lose it until it is recovered", yes)
        _hold(registry, app, found, Hold.ARCHIVED)
        click.echo(_state(registry, app, found.id))


@database.command()
@click.argument("name")
def recover(name: str) -> None:
    """Bring an archived database back. Where its branch is gone, it stays until it is archived by hand."""
    with Registry.open(the_home()) as registry:
        app, found = find(registry, name)
        if all(item.id != found.instance_id for item in registry.instances()):
            slug = registry.instance_of(found.instance_id).slug
            raise ProvisionerError(
                f"the instance {slug} of {found.name} was deleted", f"Recover that: provisioner instance recover {slug}"
            )
        for share in shares(registry, app.id):
            if (share.timeline_id, share.instance_id) == (found.timeline_id, found.instance_id):
                name = shown(timeline_of(registry, app, found).name)
                raise ProvisionerError(
                    f"{name} shares another timeline's database in the place of {found.name}",
                    f"Let it go first: provisioner database unshare {name}",
                )
        rivals = [
            other
            for other in registry.databases(app.id)
            if other.live and other.id != found.id
            if (other.timeline_id, other.instance_id) == (found.timeline_id, found.instance_id)
        ]
        if rivals:
            raise ProvisionerError(
                f"the timeline has a live database, {rivals[0].name} ({rivals[0].id})",
                f"Archive that first: provisioner database archive {rivals[0].id}",
            )
        _hold(registry, app, found, Hold.CONNECTED)
        click.echo(_state(registry, app, found.id))


@database.command()
@click.argument("name")
@yes_option
def purge(name: str, yes: bool) -> None:
    """Delete an archived database for good now, with its snapshots, before its retention time is over."""
    with Registry.open(the_home()) as registry:
        app, found = find(registry, name)
        if found.status is not Status.ARCHIVED:
            raise ProvisionerError(
                f"{found.name} is {found.status}; only what is archived is deleted",
                f"Archive it first: provisioner database archive {found.id}",
            )
        users = shared_by(registry, app, found)
        confirm(f"Delete {found.name} ({found.id}) and its snapshots for good?{users} Nothing brings them back", yes)
        with app_locked(registry, app), registry.change():
            current = registry.database(found.id)
            if current is None or current.status is not Status.ARCHIVED:
                raise ProvisionerError(f"{found.name} is not archived any more", "See 'provisioner status'")
            now = now_ms()
            registry.save_databases([replace(current, purge_at=now, retry_at=None)])
            registry.record(now, "database.purge-asked", "user", app_id=app.id, database_id=found.id)
        run(registry, app, "database purge")
        left = registry.database(found.id)
        if left is not None and left.status is not Status.PURGED:
            raise ProvisionerError(
                f"{found.name} is not deleted yet: {left.error or left.status}", "Then run: provisioner reconcile"
            )
        click.echo(f"deleted {found.name}")


def _hold(registry: Registry, app: App, found: Database, hold: Hold) -> None:
    with app_locked(registry, app), registry.change():
        registry.save_databases([replace(found, hold=hold, purge_at=None)])
        if hold is Hold.CONNECTED:  # its time begins anew
            timeline = timeline_of(registry, app, found)
            gone_at = None if timeline.preview else timeline.gone_at
            registry.save_timelines([replace(timeline, active_at=now_ms(), gone_at=gone_at)])
        registry.record(now_ms(), f"database.hold-{hold}", "user", app_id=app.id, database_id=found.id)
    run(registry, app, f"database {'archive' if hold is Hold.ARCHIVED else 'recover'}")


def _state(registry: Registry, app: App, database_id: str) -> str:
    found = next(item for item in registry.databases(app.id) if item.id == database_id)
    if found.error:
        raise ProvisionerError(f"{found.name}: {found.error}", f"Then run: provisioner database fix {found.name}")
    until = f" until {rfc3339(found.purge_at)}" if found.status is Status.ARCHIVED and found.purge_at else ""
    return f"{found.name} is {found.status}{until}"
