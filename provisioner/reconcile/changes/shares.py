"""Sharing a database between timelines: requested by a person; a reconcile archives the databases that are not used."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App, Database, Intent, Share, Status, Timeline
from provisioner.reconcile.apply.locks import app_locked
from provisioner.registry import shares
from provisioner.registry.queries import databases_of
from provisioner.registry.store import Registry


def share(registry: Registry, app: App, timeline: Timeline, databases: Sequence[Database], now: int) -> None:
    """From now on the timeline uses these databases of another's. Raises Busy, and ProvisionerError where one of them is
    not connected."""
    with app_locked(registry, app), registry.change():
        own = databases_of(registry, timeline)
        for database in databases:
            current = registry.database(database.id)
            connected = current is not None and current.status is Status.CONNECTED
            if current is None or not connected or current.intent not in (None, Intent.REPLACE):
                raise ProvisionerError(f"{database.name} is not connected", "See: provisioner status")
            shares.save_share(registry, Share(timeline.id, database.instance_id, database.id, now))
            aside = [
                item.kept_until(None) for item in own if item.instance_id == database.instance_id and not item.live
            ]
            registry.save_databases(sorted(aside, key=lambda item: item.archived_at or 0)[-1:])
            registry.audit(now, "database.share", timeline, database.id)


def unshare(registry: Registry, app: App, timeline: Timeline, ended: Sequence[Share], now: int) -> None:
    """From now on the timeline uses its own. Raises Busy."""
    with app_locked(registry, app), registry.change():
        shares.end_shares(registry, ended)
        for item in ended:
            registry.audit(now, "database.unshare", timeline, item.database_id)
