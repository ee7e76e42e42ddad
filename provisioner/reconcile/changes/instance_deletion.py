"""Deleting an instance, and bringing it back: said by a person; reconciling archives, brings back, and in the end purges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App, Instance
from provisioner.reconcile.apply.locks import app_locked, instance_locked
from provisioner.reconcile.changes.backup import Held, make_backup
from provisioner.registry import instances
from provisioner.registry.home import observed_time
from provisioner.registry.store import Registry
from provisioner.system import failpoints


def delete_instance(
    registry: Registry,
    instance: Instance,
    held: Callable[[], Sequence[Held]],
    now: int,
    purge_at: int,
    *,
    backup: bool,
    progress: Callable[[int], None],
    warn: Callable[[str], None],
) -> str | None:
    """Back it up and call it deleted, until `purge_at` (ms) for the time being; the path of the backup.

    `held` returns its databases with data, and raises ProvisionerError if they must stay; it is called when no other process can
    change them, and once more before it is said. Raises ProvisionerError, and then nothing was deleted.
    """
    with instance_locked(registry, instance):
        if all(item.id != instance.id for item in registry.instances()):
            raise ProvisionerError(
                f"instance {instance.slug} was deleted in the meantime", "See: provisioner instance list --deleted"
            )
        path = make_backup(registry, instance, held(), now, progress, warn) if backup else None
        failpoints.point("delete.backed")
        with ExitStack() as stack:
            for app in _apps(registry):
                stack.enter_context(app_locked(registry, app))
            held()
            instances.mark_deleted(registry, instance, now, purge_at, path)
            observed_time.observe(registry)  # from here on, the time until it is purged is waited for
        failpoints.point("delete.recorded")
    return path


def recover_instance(registry: Registry, instance: Instance, now: int) -> None:
    """Call it deleted no more; its assignments are in force again. Raises ProvisionerError where it is too late."""
    with instance_locked(registry, instance), ExitStack() as stack:
        for app in _apps(registry):
            stack.enter_context(app_locked(registry, app))
        found = next((item for item in instances.deleted(registry) if item.instance.id == instance.id), None)
        if found is None:
            raise ProvisionerError(f"instance {instance.slug} is not deleted", "See: provisioner instance list")
        if observed_time.recoverable_until(registry, found, now) <= now:
            raise ProvisionerError(
                f"the time to recover {instance.slug} is over",
                f"Its backup is {found.backup}: tar -xzf unpacks it" if found.backup else "There is no backup of it",
            )
        instances.mark_recovered(registry, instance, now)
        failpoints.point("undelete.recorded")


def _apps(registry: Registry) -> list[App]:
    """In one order, so that two who want all of them do not wait for each other."""
    return sorted(registry.apps(), key=lambda app: app.id)
