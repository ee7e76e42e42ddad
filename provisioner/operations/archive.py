"""Putting a database away by hand, bringing it back, and deleting what was put away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App, Database, Hold, Status
from provisioner.core.naming import shown
from provisioner.operations.fork_reset import shared_by
from provisioner.operations.lookup import timeline_of
from provisioner.operations.proposal import Proposal, Told
from provisioner.operations.reconcile_now import run
from provisioner.reconcile.apply.locks import app_locked
from provisioner.registry import queries
from provisioner.registry.store import Registry


def archive(registry: Registry, app: App, found: Database) -> Proposal:
    """Put a database away; it is kept for the retention time."""
    timeline = timeline_of(registry, found)
    if timeline.protected:
        raise ProvisionerError(
            f"{found.name} is of a protected timeline, which is never archived",
            f"If it is to be: provisioner timeline unprotect {shown(timeline.name)}",
        )

    def do(told: Told) -> Iterator[str]:
        _hold(registry, app, found, Hold.ARCHIVED, told)
        yield _state(registry, found)

    users = shared_by(registry, found)
    question = f"Archive {found.name}?{users} Apps on {app.slug} lose it until it is recovered."
    return Proposal(do, question, typed=found.name if timeline.production else "")


def recover(registry: Registry, app: App, found: Database) -> Proposal:
    """Bring an archived database back. Where its branch is gone, it stays until it is archived by hand."""
    if all(item.id != found.instance_id for item in registry.instances()):
        slug = registry.instance_of(found.instance_id).slug
        raise ProvisionerError(
            f"the instance {slug} of {found.name} was deleted", f"Recover that: provisioner instance recover {slug}"
        )
    timeline = timeline_of(registry, found)
    for share in queries.shares_of(registry, timeline):
        if share.instance_id == found.instance_id:
            name = shown(timeline.name)
            raise ProvisionerError(
                f"{name} shares another timeline's database in the place of {found.name}",
                f"Let it go first: provisioner database unshare {name}",
            )
    rivals = [
        other
        for other in queries.databases_of(registry, timeline)
        if other.live and other.id != found.id and other.instance_id == found.instance_id
    ]
    if rivals:
        raise ProvisionerError(
            f"the timeline has a live database, {rivals[0].name} ({rivals[0].id})",
            f"Archive that first: provisioner database archive {rivals[0].id}",
        )

    def do(told: Told) -> Iterator[str]:
        _hold(registry, app, found, Hold.CONNECTED, told)
        yield _state(registry, found)

    return Proposal(do)


def purge(registry: Registry, app: App, found: Database) -> Proposal:
    """Delete an archived database for good now, with its snapshots."""
    if found.status is not Status.ARCHIVED:
        raise ProvisionerError(
            f"{found.name} is {found.status}; only what is archived is deleted",
            f"Archive it first: provisioner database archive {found.id}",
        )

    def do(told: Told) -> Iterator[str]:
        with app_locked(registry, app), registry.change():
            current = registry.database(found.id)
            if current is None or current.status is not Status.ARCHIVED:
                raise ProvisionerError(f"{found.name} is not archived any more", "See 'provisioner status'")
            now = now_ms()
            registry.save_databases([replace(current, purge_at=now, retry_at=None)])
            registry.record(now, "database.purge-asked", registry.who, app_id=app.id, database_id=found.id)
        run(registry, app, "database purge", told, retry=frozenset([found.id]))
        left = registry.database(found.id)
        if left is not None and left.status is not Status.PURGED:
            raise ProvisionerError(
                f"{found.name} is not deleted yet: {left.error or left.status}", "Then run: provisioner reconcile"
            )
        yield f"deleted {found.name}"

    users = shared_by(registry, found)
    what = f"Delete {found.name} ({found.id}) and its snapshots for good?"
    typed = found.name if timeline_of(registry, found).production else ""
    return Proposal(do, f"{what}{users} Nothing brings them back.", typed=typed)


def _hold(registry: Registry, app: App, found: Database, hold: Hold, told: Told) -> None:
    with app_locked(registry, app), registry.change():
        current = registry.database(found.id)
        if current is None or current.status is Status.PURGED:
            raise ProvisionerError(f"{found.name} was deleted meanwhile", "See 'provisioner status'")
        registry.save_databases([replace(current, hold=hold, purge_at=None)])
        if hold is Hold.CONNECTED:  # its time begins anew
            timeline = timeline_of(registry, found)
            gone_at = None if timeline.preview else timeline.gone_at
            registry.save_timelines([replace(timeline, active_at=now_ms(), gone_at=gone_at)])
        registry.record(now_ms(), f"database.hold-{hold}", registry.who, app_id=app.id, database_id=found.id)
    verb = "archive" if hold is Hold.ARCHIVED else "recover"
    run(registry, app, f"database {verb}", told, retry=frozenset([found.id]))


def _state(registry: Registry, database: Database) -> str:
    found = registry.database(database.id)
    if found is None or found.status is Status.PURGED:
        return f"{database.name} was deleted"
    if found.error:
        raise ProvisionerError(f"{found.name}: {found.error}", f"Then run: provisioner database fix {found.name}")
    until = f" until {rfc3339(found.purge_at)}" if found.status is Status.ARCHIVED and found.purge_at else ""
    return f"{found.name} is {found.status}{until}"
