"""Databases that have held data of which nothing is there, as opposed to damaged ones; and what can be done about them."""

from __future__ import annotations

from collections.abc import Sequence

from provisioner.core.ids import DatabaseId
from provisioner.core.model import Database, Instance, Intent, Status
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import Failures
from provisioner.engines.protocol.stopped import NothingStored
from provisioner.registry import snapshots
from provisioner.registry.instances import held_on
from provisioner.registry.store import Registry


def lost(registry: Registry, databases: Sequence[Database]) -> list[Database]:
    """Those whose data is lost. One whose place does not answer is not, and neither is one that never held any."""
    return [item for item in databases if _lost(registry.storage_of(item), [item])]


def explained(registry: Registry, instance: Instance, failures: Failures, databases: Sequence[Database]) -> Failures:
    """The failures of these databases; with what to do, for those whose data is lost."""
    failed = {item.id: item for item in databases if item.id in failures}
    gone = _lost(instance, list(failed.values()))
    return failures | {each: f"{failures[each]}. {remedy(registry, failed[each])}" for each in gone}


def place_unknown(registry: Registry, instance: Instance) -> NothingStored | None:
    """Why nothing may be done on this instance: it has stored databases, and its server has nothing of it. None if that is
    not so, or cannot be found out now."""
    if instance.moving:
        return None
    one = held_on(registry, instance.id, most=1)
    try:
        if one:
            engine_of(instance).lost(instance, one)
    except NothingStored:
        return _nothing_at_all(instance, held_on(registry, instance.id))
    except Exception:  # it does not answer, which the step itself reports
        return None
    return None


def _nothing_at_all(instance: Instance, held: Sequence[DatabaseId]) -> NothingStored | None:
    try:
        engine_of(instance).lost(instance, held)
    except NothingStored as error:
        return error
    return None


def must_be_known(registry: Registry, databases: Sequence[Database]) -> None:
    """Raises NothingStored if the server of one of them has nothing of its instance."""
    for instance_id in {item.instance_id for item in databases if item.error}:
        if (unknown := place_unknown(registry, registry.instance_of(instance_id))) is not None:
            raise unknown


def remedy(registry: Registry, database: Database) -> str:
    """What else to do if the data of a lost database cannot be put back."""
    current = registry.database(database.id) or database
    timeline = registry.timeline(current.timeline_id)
    kept = current.live and timeline.gone_at is None and snapshots.snapshots(registry, current.id)
    back = f"restore a snapshot of it: provisioner database snapshot list {current.id}. Or " if kept else ""
    if current.live and timeline.gone_at is None and not timeline.production and not timeline.protected:
        return f"If it is lost, {back}start empty: provisioner database reset {current.id}"
    return f"If it is lost, {back}discard it: provisioner database purge {current.id}"


def _lost(instance: Instance, databases: Sequence[Database]) -> set[DatabaseId]:
    """None of them if that cannot be found out, whatever keeps it: then their data counts as there."""
    if instance.moving:  # it may be between two places
        return set()
    held = [item.id for item in databases if item.connected_at is not None and not _in_between(item)]
    try:
        return engine_of(instance).lost(instance, held) if held else set()
    except Exception:
        return set()


def _in_between(database: Database) -> bool:
    """Is it deleted, or is its data being replaced? Then what was built beside it may be all of it, and is moved in next."""
    return database.status is Status.PURGED or database.intent is Intent.REPLACE
