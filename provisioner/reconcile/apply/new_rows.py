"""The first rows in the registry for something new."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

from provisioner.core.ids import DatabaseId
from provisioner.core.model import App, Database, Instance, Intent, Provisioning, Timeline
from provisioner.core.naming import database_name


def begun(new_id: str, app: App, timeline: Timeline, instance: Instance, first: str, now: int) -> Database:
    """The row of a database that is to be made. `first` is the id of the instance that the app was assigned first."""
    return Database(
        id=DatabaseId(new_id),
        timeline_id=timeline.id,
        instance_id=instance.id,
        name=name_of(app, timeline, instance, first),
        state=Provisioning(Intent.PROVISION),
        created_at=now,
        connected_at=None,
        moved=instance.moving,
    )


def name_of(app: App, timeline: Timeline, instance: Instance, first: str) -> str:
    """What a database of the timeline on the instance is called; `first` as in `begun`."""
    return database_name(
        app.slug, app.id, timeline.name, None if instance.id == first else (instance.slug, instance.id)
    )


def new_ids(count: int) -> Iterator[str]:
    """Random UUIDs, all from one system call: one call for each would be a tenth of the time to provision many."""
    random = os.urandom(16 * count)
    for start in range(0, len(random), 16):
        yield str(uuid.UUID(bytes=random[start : start + 16], version=4))
