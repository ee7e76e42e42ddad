"""Deleting an instance with all of its databases, and recovering it."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.counts import counted, verb
from provisioner.core.errors import Ambiguous, NotResolved, ProvisionerError
from provisioner.core.model import App, Instance, Status
from provisioner.core.naming import shown
from provisioner.core.nearest import nearest
from provisioner.engines.catalog import engine_of
from provisioner.operations.apps import RETENTION_MS
from provisioner.operations.documents import size_text
from provisioner.operations.instance.names import must_be_alone, must_be_free, must_stay, successor
from provisioner.operations.proposal import ProgressReporter, Proposal, Warned
from provisioner.operations.reconcile_now import run
from provisioner.reconcile.changes.backup import Held
from provisioner.reconcile.changes.instance_deletion import delete_instance, recover_instance
from provisioner.reconcile.controller import archive_instance
from provisioner.registry import queries
from provisioner.registry.home.observed_time import recoverable_until
from provisioner.registry.instances import Deleted, databases_of, deleted
from provisioner.registry.store import Registry


def delete(registry: Registry, instance: Instance, *, backup: bool) -> Proposal:
    """Delete an instance after a final backup of each of its databases. It can be recovered until the retention period of
    its apps ends."""
    must_stay(instance)
    slug = instance.slug
    held = _deletable(registry, instance)
    until = rfc3339(now_ms() + retention_ms(registry, instance))
    question = f"Delete {slug} and all of its databases? Recoverable until {until}."

    def do(reporter: ProgressReporter) -> Iterator[str]:
        now = now_ms()
        purge_at = now + retention_ms(registry, instance)
        path = delete_instance(
            registry,
            instance,
            lambda: _deletable(registry, instance),
            now,
            purge_at,
            backup=backup and bool(held),
            progress=lambda count: reporter.say(f"{slug}: backed up {count} of {counted(len(held), 'database')}"),
            warn=lambda line: reporter.say(Warned(f"{slug}: {line}")),
        )
        for app in _apps(registry, instance, held):
            archive_instance(registry, app, instance, now_ms(), "its instance was deleted")
        yield f"Deleted instance {slug}. Recover it until {rfc3339(purge_at)}: provisioner instance recover {slug}"
        if path is not None:
            yield shown(f"Backup: {path}")
        left = [item for _, _, item in _held(registry, instance) if item.live]
        if left:
            raise ProvisionerError(
                f"{counted(len(left), 'database')} {verb(len(left), 'is', 'are')} not archived yet;"
                f" {left[0].name}: {left[0].error or left[0].status}",
                "Resolve this, then run: provisioner reconcile --all",
            )

    apps = sorted(app.id for app in _apps(registry, instance, held))
    about = " ".join(("delete", instance.id, *apps))
    return Proposal(do, question, tuple(_list(registry, instance, held)), typed=slug, about=about)


def recover(registry: Registry, found: Deleted) -> Proposal:
    """Recover a deleted instance, with its databases and its assignments."""
    instance = found.instance
    if registry.instance_called(instance.slug) is not None:
        raise ProvisionerError(
            f"another instance is now called {instance.slug!r}",
            f"Rename that one first: provisioner instance edit {instance.slug} --name NAME",
        )
    must_be_free(registry, instance.slug)
    must_be_alone(registry, instance.location, but=instance.id)

    def do(reporter: ProgressReporter) -> Iterator[str]:
        recover_instance(registry, instance, now_ms())
        failed = _bring_back(registry, instance, reporter)
        live = sum(database.live for _, _, database in _held(registry, instance))
        yield f"Recovered {instance.slug} with {counted(live, 'live database')}. See: provisioner instance show {instance.slug}"
        if failed:
            raise ProvisionerError(
                f"not everything is connected yet: {failed}", "Resolve this, then run: provisioner reconcile --all"
            )

    return Proposal(do)


def retention_ms(registry: Registry, instance: Instance) -> int:
    """How long a deleted instance can be recovered."""
    apps = _apps(registry, instance, _held(registry, instance))
    return max([app.retention_ms for app in apps] or [RETENTION_MS])


def find_deleted(registry: Registry, slug: str) -> Deleted:
    """A deleted instance by its name or id, recoverable if one of that name is. Raises ProvisionerError."""
    found = [item for item in deleted(registry) if slug in (item.instance.slug, item.instance.id)]
    if not found:
        near = nearest(slug, {item.instance.slug for item in deleted(registry)})
        raise NotResolved(
            f"no deleted instance {slug!r}", "List them: provisioner instance list --deleted", candidates=near
        )
    now = now_ms()
    there = [item for item in found if recoverable_until(registry, item, now) > now]
    if len(there) > 1:
        each = ", ".join(
            f"{item.instance.id} ({counted(len(_held(registry, item.instance)), 'database')}, deleted {rfc3339(item.deleted_at)})"
            for item in there
        )
        raise Ambiguous(
            f"{len(there)} instances {slug!r} were deleted",
            f"Choose one by its id: {each}",
            candidates=[item.instance.id for item in there],
        )
    return (there or found)[0]


def _held(registry: Registry, instance: Instance) -> list[Held]:
    """The databases with data on an instance, production's first, then by app and timeline."""
    apps = {app.id: app for app in registry.apps(removed=True)}
    there = [database for database in databases_of(registry, instance.id) if database.connected_at is not None]
    pairs = queries.with_timelines(registry, there)
    found = [(apps[timeline.app_id], timeline, database) for database, timeline in pairs]
    return sorted(found, key=lambda item: (not item[1].production, item[0].slug, item[1].name, item[2].created_at))


def _apps(registry: Registry, instance: Instance, held: list[Held]) -> list[App]:
    """The registered apps that the instance is assigned to, or that have data on it."""
    with_data = {app.id for app, _, _ in held}
    return [
        app
        for app in registry.apps()
        if app.id in with_data or any(item.id == instance.id for item in registry.assigned(app.id))
    ]


def _deletable(registry: Registry, instance: Instance) -> list[Held]:
    """The databases on it. Raises ProvisionerError if one is protected, or the instance is being moved."""
    must_stay(registry.instance_of(instance.id))
    held = _held(registry, instance)
    for _, timeline, database in held:
        if timeline.protected and database.status is not Status.ARCHIVED:
            name = shown(timeline.name)
            raise ProvisionerError(
                f"cannot delete {database.name}: its timeline {name} is protected",
                f"To allow this, run: provisioner timeline unprotect {name}",
            )
    return held


def _list(registry: Registry, instance: Instance, held: list[Held]) -> Iterator[str]:
    apps = ", ".join(app for name, app in registry.assignments() if name == instance.slug)
    yield shown(
        f"{instance.slug} in {instance.location}, assigned to {apps or 'no app'}: {counted(len(held), 'database')}"
    )
    for app in registry.apps():
        heir = successor(registry, app, instance)
        if heir:
            yield f"  {app.slug}: {heir}"
    for app, timeline, database in held:
        size = engine_of(instance).inspect(instance, database).size
        name = timeline.name.decode("utf-8", "surrogateescape")
        name = name.upper() if timeline.production else name
        words = (app.slug, name, database.name, str(database.status), "missing" if size is None else size_text(size))
        yield shown(f"  {'  '.join(words)}")


def _bring_back(registry: Registry, instance: Instance, reporter: ProgressReporter) -> str:
    """Reconcile each of its apps, even if another one fails. Returns the first failure; empty if there is none."""
    failed = ""
    for app in _apps(registry, instance, _held(registry, instance)):
        try:
            run(registry, app, "instance recover", reporter)
        except ProvisionerError as error:
            failed = failed or f"{app.slug}: {error}"
        for database in queries.failed(registry, app.id):
            if database.instance_id == instance.id:
                failed = failed or f"{database.name}: {database.error}"
    return failed
