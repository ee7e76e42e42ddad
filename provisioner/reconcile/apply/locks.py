"""Locks for changes: one process at a time for an app's timelines and databases, and one for a database's data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from provisioner.core.ids import DatabaseId, TimelineId
from provisioner.core.model import App, Database, Instance
from provisioner.registry.home.follower_guard import must_lead
from provisioner.registry.store import Registry
from provisioner.system.file_lock import if_free, locked


@contextmanager
def app_locked(registry: Registry, app: App) -> Iterator[None]:
    """Held for moments only: everything that wakes up waits for it. Raises Busy."""
    must_lead(registry.home)
    with locked(os.path.join(registry.home.locks, f"app-{app.id}.lock"), f"the app {app.slug!r}"):
        yield


def app_if_free(registry: Registry, app: App) -> AbstractContextManager[bool]:
    """The same, if no other process works on the app now; else False."""
    must_lead(registry.home)
    return if_free(os.path.join(registry.home.locks, f"app-{app.id}.lock"))


@contextmanager
def all_locked(registry: Registry) -> Iterator[None]:
    """The same for all apps, in one order, so that two who want all of them do not wait for each other."""
    with ExitStack() as stack:
        for app in sorted(registry.apps(removed=True), key=lambda app: app.id):
            stack.enter_context(app_locked(registry, app))
        yield


@contextmanager
def database_locked(registry: Registry, database: Database, timeout: float = 60.0) -> Iterator[None]:
    """Held while its data is copied or replaced, which may take long. Taken before the app's. Raises Busy."""
    must_lead(registry.home)
    with locked(_database(registry, database.id), f"the database {database.name!r}", timeout):
        yield


def database_if_free(registry: Registry, database_id: DatabaseId) -> AbstractContextManager[bool]:
    """True: no other process works on the database, nor can one start before the block ends."""
    return if_free(_database(registry, database_id))


@contextmanager
def timeline_locked(registry: Registry, timeline_id: TimelineId, timeout: float) -> Iterator[None]:
    """Held while a command is run on a timeline, which may take long. Taken before all others. Raises Busy."""
    with locked(_timeline(registry, timeline_id), "the timeline", timeout):
        yield


def timeline_if_free(registry: Registry, timeline_id: TimelineId) -> AbstractContextManager[bool]:
    """True: no other process runs a command on the timeline, nor can one start before the block ends."""
    return if_free(_timeline(registry, timeline_id))


def hooks_if_free(registry: Registry, timeline_id: TimelineId) -> AbstractContextManager[bool]:
    """True: no other process runs an operator's hook for the timeline until the block ends. Nothing else waits for this lock."""
    return if_free(os.path.join(registry.home.locks, f"hooks-{timeline_id}.lock"))


def _timeline(registry: Registry, timeline_id: TimelineId) -> str:
    return os.path.join(registry.home.locks, f"timeline-{timeline_id}.lock")


@contextmanager
def instance_locked(registry: Registry, instance: Instance, timeout: float = 60.0) -> Iterator[None]:
    """Held while it is deleted, recovered or moved. Taken before a database's and an app's. Raises Busy."""
    with locked(_instance(registry, instance), f"the instance {instance.slug!r}", timeout):
        yield


def instance_if_free(registry: Registry, instance: Instance) -> AbstractContextManager[bool]:
    """True: no other process works on the instance, nor can one start before the block ends."""
    return if_free(_instance(registry, instance))


def _instance(registry: Registry, instance: Instance) -> str:
    return os.path.join(registry.home.locks, f"instance-{instance.id}.lock")


def _database(registry: Registry, database_id: DatabaseId) -> str:
    return os.path.join(registry.home.locks, f"database-{database_id}.lock")
