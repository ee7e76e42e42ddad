"""`provisioner instance delete` and `recover`."""

from __future__ import annotations

import sys

import click

from provisioner.cli.app import RETENTION_MS
from provisioner.cli.instances.finding import find, must_be_alone, must_be_free, successor
from provisioner.cli.reconcile import run
from provisioner.cli.shared import the_home, yes_option
from provisioner.clock import now_ms, rfc3339
from provisioner.engines.table import ENGINES
from provisioner.errors import ProvisionerError
from provisioner.model import App, Instance, Status
from provisioner.naming import shown
from provisioner.reconcile.backup import Held
from provisioner.reconcile.controller import archive_instance
from provisioner.reconcile.deleting import delete_instance, recover_instance
from provisioner.registry.instances import Deleted, deleted
from provisioner.registry.store import Registry


@click.command()
@click.argument("slug")
@click.option("--no-backup", is_flag=True, help="Make no final backup.")
@yes_option
def delete(slug: str, no_backup: bool, yes: bool) -> None:
    """Delete an instance with all of its databases, after a final backup of each.

    Until the retention time of its apps is over, 'instance recover' brings all of it back.
    """
    with Registry.open(the_home()) as registry:
        instance = find(registry, slug)
        held = _held(registry, instance)
        _must_be_unprotected(held)
        _list(registry, instance, held)
        _confirm(slug, yes)
        now = now_ms()
        purge_at = now + max([app.retention_ms for app in _apps(registry, instance, held)] or [RETENTION_MS])
        path = delete_instance(
            registry,
            instance,
            lambda: _held(registry, instance),
            now,
            purge_at,
            backup=not no_backup and bool(held),
            progress=lambda count: click.echo(f"{slug}: backed up {count} of {len(held)} databases", err=True),
        )
        for app in _apps(registry, instance, held):
            archive_instance(registry, app, instance, now_ms(), "its instance was deleted")
        click.echo(f"deleted {slug}; 'provisioner instance recover {slug}' brings it back until {rfc3339(purge_at)}")
        if path is not None:
            click.echo(shown(f"backup: {path}"))
        left = [item for _, _, item in _held(registry, instance) if item.live]
        if left:
            raise ProvisionerError(
                f"{len(left)} databases are not archived yet; {left[0].name}: {left[0].error or left[0].status}",
                "Mend that, then run: provisioner reconcile --all",
            )


def _held(registry: Registry, instance: Instance) -> list[Held]:
    """The databases with data on an instance, production's first, then by app and timeline."""
    found = []
    for app in registry.apps(removed=True):
        timelines = {timeline.id: timeline for timeline in registry.timelines(app.id)}
        for database in registry.databases(app.id):
            if database.instance_id == instance.id and database.connected_at is not None:
                found.append((app, timelines[database.timeline_id], database))
    return sorted(found, key=lambda item: (not item[1].production, item[0].slug, item[1].name, item[2].created_at))


def _apps(registry: Registry, instance: Instance, held: list[Held]) -> list[App]:
    """The registered apps that the instance is assigned to, or has data of."""
    with_data = {app.id for app, _, _ in held}
    return [
        app
        for app in registry.apps()
        if app.id in with_data or any(item.id == instance.id for item in registry.assigned(app.id))
    ]


def _must_be_unprotected(held: list[Held]) -> None:
    for _, timeline, database in held:
        if timeline.protected and database.status is not Status.ARCHIVED:
            name = shown(timeline.name)
            raise ProvisionerError(
                f"{database.name} is of the protected timeline {name}, whose data is not deleted",
                f"If it is to be: provisioner timeline unprotect {name}",
            )


def _list(registry: Registry, instance: Instance, held: list[Held]) -> None:
    apps = ", ".join(app for name, app in registry.assignments() if name == instance.slug)
    click.echo(shown(f"{instance.slug} in {instance.location}, assigned to {apps or 'no app'}: {len(held)} databases"))
    for app in registry.apps():
        heir = successor(registry, app, instance)
        if heir:
            click.echo(f"  {app.slug}: Deno.openKv() opens the databases of {heir} from then on")
    for app, timeline, database in held:
        size = ENGINES[instance.engine].inspect(instance, database).size
        name = timeline.name.decode("utf-8", "surrogateescape")
        name = name.upper() if timeline.production else name
        words = (app.slug, name, database.name, str(database.status), "missing" if size is None else f"{size} bytes")
        click.echo(shown(f"  {'  '.join(words)}"))


def _confirm(slug: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ProvisionerError(f"deleting {slug} was not confirmed", "Nobody can be asked here: say --yes")
    if click.prompt(f"Type {slug} to delete it with all of these") != slug:
        raise ProvisionerError("that is not its name: nothing was deleted")


@click.command()
@click.argument("slug")
def recover(slug: str) -> None:
    """Bring a deleted instance back, with its databases and its assignments. SLUG is its name, or its id."""
    with Registry.open(the_home()) as registry:
        found = _deleted(registry, slug)
        instance = found.instance
        if any(other.slug == instance.slug for other in registry.instances()):
            raise ProvisionerError(
                f"another instance is called {instance.slug!r} now",
                f"Rename that first: provisioner instance edit {instance.slug} --name NAME",
            )
        must_be_free(registry, instance.slug)
        must_be_alone(registry, instance.location, but=instance.id)
        recover_instance(registry, instance, now_ms())
        failed = _bring_back(registry, instance)
        live = sum(database.live for _, _, database in _held(registry, instance))
        click.echo(
            f"{instance.slug} is back with {live} live databases; see 'provisioner instance show {instance.slug}'"
        )
        if failed:
            raise ProvisionerError(
                f"not everything is connected yet: {failed}", "Then run: provisioner reconcile --all"
            )


def _deleted(registry: Registry, slug: str) -> Deleted:
    found = [item for item in deleted(registry) if slug in (item.instance.slug, item.instance.id)]
    if not found:
        raise ProvisionerError(f"no instance {slug!r} was deleted", "See 'provisioner instance list --deleted'")
    now = now_ms()
    there = [item for item in found if item.purge_at > now]
    if len(there) > 1:
        each = ", ".join(
            f"{item.instance.id} ({len(_held(registry, item.instance))} databases, deleted {rfc3339(item.deleted_at)})"
            for item in there
        )
        raise ProvisionerError(f"{len(there)} instances {slug!r} were deleted", f"Say which by its id: {each}")
    return (there or found)[0]


def _bring_back(registry: Registry, instance: Instance) -> str:
    """Reconcile each app of it, whatever is wrong with another. What went wrong first; empty where nothing did."""
    failed = ""
    for app in _apps(registry, instance, _held(registry, instance)):
        try:
            run(registry, app, "instance recover")
        except ProvisionerError as error:
            failed = failed or f"{app.slug}: {error}"
        for database in registry.databases(app.id):
            if database.instance_id == instance.id and database.error:
                failed = failed or f"{database.name}: {database.error}"
    return failed
