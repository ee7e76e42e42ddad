"""Owner records: written beside the data and kept up to date; and the refusals when they contradict the registry.

The registry may be older than the data, from a backup, or new after a loss. Then there are databases that it does not
know, or knows as another timeline's. None of them is replaced by an empty one, and none is archived or deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Protocol

from provisioner.core.errors import StorageFailed
from provisioner.core.ids import DatabaseId
from provisioner.core.model import App, Database, Instance, Status, Timeline
from provisioner.core.naming import shown
from provisioner.core.owner import timeline_key
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import Failures, StoredDatabase
from provisioner.reconcile.apply.isolation import each_alone
from provisioner.reconcile.apply.locks import app_if_free
from provisioner.reconcile.apply.lost_data import place_unknown
from provisioner.registry.home import owners
from provisioner.registry.home.owners import RecordedOwner
from provisioner.registry.store import Registry


def record_new(registry: Registry, instance: Instance, databases: Sequence[Database]) -> Failures:
    """Write it beside databases that have just been connected. What fails is still due, and not waited for."""
    found = owners.owners(registry, [database.id for database in databases])
    return engine_of(instance).record_owners(instance, found, durable=False)


def settle_owners(registry: Registry, app: App, *, new: bool = False) -> None:
    """Write it where it has changed; with `new`, have it on disk for new databases, too. The caller holds the app's lock.

    What fails stays due, and so does what the data says otherwise.
    """
    found = [registry.database(each) for each in owners.due(registry, app.id, new=new)]
    todo = [database for database in found if database is not None]
    for (instance_id, moved), group in groupby(
        sorted(todo, key=_storage), lambda database: (database.instance_id, database.moved)
    ):
        instance = registry.instance_of(instance_id).storage(moved=moved)
        if place_unknown(registry, instance) is not None:
            continue
        databases = list(group)
        failures = each_alone(partial(_record, registry, instance), databases)
        owners.end_due(registry, [each.id for each in databases if each.id not in failures])


def _record(registry: Registry, instance: Instance, databases: Sequence[Database]) -> Failures:
    """Write it beside these, on disk when it returns; not where the data says otherwise."""
    refused = disowned(registry, instance, databases, to_use=True)
    ids = [database.id for database in databases if database.id not in refused]
    return refused | engine_of(instance).record_owners(instance, owners.owners(registry, ids), durable=True)


def settle_everywhere(registry: Registry) -> None:
    """The same for every app that no process works on now; the owner records of new databases are then on disk too."""
    for app in registry.apps():
        if owners.due(registry, app.id, new=True):
            with app_if_free(registry, app) as free:
                if free:
                    settle_owners(registry, app, new=True)


def _storage(database: Database) -> tuple[str, bool]:
    return database.instance_id, database.moved


class Step(Protocol):
    """What is to be done with a database of a timeline."""

    @property
    def database(self) -> Database: ...
    @property
    def timeline(self) -> Timeline: ...


def refusals(registry: Registry, app: App, verb: str, groups: Iterable[tuple[Instance, Sequence[Step]]]) -> Failures:
    """What the data itself speaks against, of steps by the storage of their databases."""
    failures: Failures = {}
    for instance, group in groups:
        if (unknown := place_unknown(registry, instance)) is not None:
            failures |= dict.fromkeys((step.database.id for step in group), str(unknown))
            continue
        look = partial(disowned, registry, instance, to_use=verb == "ensure")
        failures |= each_alone(look, [step.database for step in group])
        if verb != "ensure":
            continue
        timelines = {step.database.id: step.timeline for step in group}
        new = [step.database for step in group if step.database.connected_at is None]
        whole = registry.instance_of(instance.id)
        ends = [whole.storage(moved=moved) for moved in (False, True)] if whole.moving else [instance]
        for end in ends:
            failures |= each_alone(partial(unmakeable, registry, app, end, timelines), new)
    return failures


def unmakeable(
    registry: Registry, app: App, instance: Instance, timelines: Mapping[DatabaseId, Timeline], new: Sequence[Database]
) -> Failures:
    """Of databases that never held data, those whose timelines have data here that the registry does not know as theirs."""
    app_ids = owners.app_ids(registry, app.id) if new else []
    pairs = [(database, timelines[database.id]) for database in new]
    keys = {timeline_key(app_id, each.name): (database, each) for database, each in pairs for app_id in app_ids}
    failures: Failures = {}
    try:
        claims = engine_of(instance).claims(instance, list(keys)) if keys else {}
    except StorageFailed as error:
        return {database.id: str(error) for database in new}
    for key, claimant in claims.items():
        database, timeline = keys[key]
        if claimant.database_id != database.id and not _is_known(registry, claimant, timeline):
            failures[database.id] = (
                f"database {claimant.database_id} of {shown(timeline.name)} is stored on {instance.slug}, but the registry does"
                f" not have it as live. No empty one was created. {_step(claimant.database_id)}"
            )
    return failures


def _is_known(registry: Registry, claimant: StoredDatabase, timeline: Timeline) -> bool:
    """Does the registry have it as this timeline's, or know that what is written beside it is out of date?"""
    found = registry.database(claimant.database_id)
    if found is None or found.status is Status.PURGED:
        return False
    if any(timeline.name in known.past for known in owners.known(registry, [found.id])):
        return True
    return found.timeline_id == timeline.id and (claimant.archived or found.status is not Status.ARCHIVED)


def _step(database_id: DatabaseId) -> str:
    return f"To use it, run: provisioner database recover {database_id}"


def disowned(registry: Registry, instance: Instance, databases: Sequence[Database], *, to_use: bool) -> Failures:
    """Those that are to be used, archived or deleted, and say of themselves what the registry does not."""
    live = {item.id for item in databases if item.live or to_use}
    wanted = [item.id for item in databases if item.connected_at is not None]
    try:
        found = engine_of(instance).find(instance, wanted) if wanted else {}
    except StorageFailed as error:
        return dict.fromkeys(wanted, str(error))
    return {
        database_id: f"{why}, so the registry may be older than the data. {_step(database_id)}"
        for known in owners.known(registry, list(found))
        if (database_id := known.owner.database_id)
        and (why := disagreement(found[database_id], known, live=database_id in live))
    }


def disagreement(there: StoredDatabase, known: RecordedOwner, *, live: bool) -> str:
    """What a database says of itself that the registry does not; empty if nothing."""
    if (said := there.owner) is not None and not known.admits(said):
        return f"it belongs to {shown(said.timeline)} of app {said.app}, according to its owner record"
    if said is not None and known.revoked(said):
        return "its credentials were revoked, according to its owner record, and the registry does not know that"
    return "it is in use, though the registry has it as archived" if not live and not there.archived else ""
