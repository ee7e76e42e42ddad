"""Other data, or none, in the place of a database's: fork, reset, and what both and a restore have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import PRE_DEPLOY_MS, App, Database, Scrub
from provisioner.core.naming import shown
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import Copied, Source
from provisioner.operations.lookup import timeline_of
from provisioner.operations.proposal import Proposal, Told
from provisioner.reconcile.changes.replace import put_in_place
from provisioner.registry.queries import users_of
from provisioner.registry.store import Registry


@dataclass(frozen=True, slots=True)
class Scrubbing:
    """What was said of scrubbing: None is nothing, and an empty command none."""

    command: str | None = None
    limit_ms: int | None = None

    def rule(self, registry: Registry, app: App, origin: Database | None) -> Scrub | None:
        """What a copy of `origin` has to pass: what was said, else for a copy of production what its assignment says."""
        if origin is None:
            return None
        assigned = registry.scrubs(app.id).get(origin.instance_id)
        if self.command is not None:
            usual = assigned.limit_ms if assigned else PRE_DEPLOY_MS
            return Scrub(self.command, self.limit_ms or usual) if self.command else None
        if assigned is None or not timeline_of(registry, origin).production:
            return None
        return replace(assigned, limit_ms=self.limit_ms or assigned.limit_ms)


_AS_ASSIGNED = Scrubbing()


def fork(
    registry: Registry,
    app: App,
    goal: Database,
    origin: Database | None,
    *,
    action: str = "fork",
    with_queue: bool = False,
    scrubbing: Scrubbing = _AS_ASSIGNED,
) -> Proposal:
    """Make a database a copy of another of the app as it is now, or empty, while others write to it.

    `action` is what it is called, ``fork`` or ``reset``. Raises ProvisionerError where that cannot be.
    """
    may_be_replaced(registry, goal, action)
    if origin is not None and origin.id == goal.id:
        raise ProvisionerError(f"{goal.name} cannot be a fork of itself", "Name another branch")
    if origin is not None and origin.instance_id != goal.instance_id:
        raise ProvisionerError(
            f"{origin.name} and {goal.name} are on two instances", "Say on which both are: --instance INSTANCE"
        )
    becomes = f"a fork of {origin.name}" if origin else "empty"

    def do(_: Told) -> Iterator[str]:
        made, kept = put_in_place(
            *(registry, app, goal, Source(origin) if origin is not None else None, now_ms()),
            action=action,
            detail=becomes,
            with_queue=with_queue,
            scrub=scrubbing.rule(registry, app, origin),
        )
        yield f"{goal.name} is {becomes}{pause(made) if origin else ''}"
        yield was_kept(registry, goal, kept)

    users = shared_by(registry, goal)
    return Proposal(do, f"Make {goal.name} {becomes}?{users} What it holds becomes a snapshot")


def shared_by(registry: Registry, database: Database) -> str:
    """For a question about what happens to a database: a sentence that names who else uses it, if somebody does."""
    names = sorted(os.fsdecode(timeline.name) for timeline in users_of(registry, database))
    return f" {shown(', '.join(names))} {'uses' if len(names) == 1 else 'use'} it too." if names else ""


def was_kept(registry: Registry, database: Database, snapshot_id: str) -> str:
    engine = engine_of(registry.storage_of(database))
    return f"What it held is snapshot {snapshot_id}. {engine.anew}"


def may_be_replaced(registry: Registry, database: Database, action: str) -> None:
    """Raises ProvisionerError where nobody may put other data in this database's place."""
    timeline = timeline_of(registry, database)
    if timeline.protected:
        name = shown(timeline.name)
        raise ProvisionerError(
            f"{database.name} is of a protected timeline, which is never the target of a {action}",
            f"If it is to be: provisioner timeline unprotect {name}",
        )
    if timeline.production:
        raise ProvisionerError(
            f"{database.name} holds production's data, which is never the target of a {action}",
            f"To go back to what it was, see: provisioner database snapshot list {database.name}",
        )


def pause(made: Copied) -> str:
    if made.how:
        return f", {made.size} bytes, {made.how}"
    return f", {made.size} bytes; writers waited for {made.paused * 1000:.1f} ms at most"
