"""Other data, or none, in the place of what a timeline's databases hold: fork, reset, and what both and a restore share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from provisioner.core.clock import now_ms
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.model import PRE_DEPLOY_MS, App, Database, Scrub
from provisioner.core.naming import shown
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import CopyResult, Source
from provisioner.operations.deploys import after_change
from provisioner.operations.lookup import timeline_of
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.target import Target, all_used
from provisioner.reconcile.apply.lost_data import lost
from provisioner.reconcile.changes.replace import Replaced, ReplacementData, put_in_place
from provisioner.registry import queries
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
        if assigned is None or not registry.timeline(origin.timeline_id).production:
            return None
        return replace(assigned, limit_ms=self.limit_ms or assigned.limit_ms)


_AS_ASSIGNED = Scrubbing()


def fork(
    registry: Registry,
    target: Target,
    source: Target | None,
    *,
    action: str = "fork",
    with_queue: bool = False,
    scrubbing: Scrubbing = _AS_ASSIGNED,
    deploy: bool = True,
) -> Proposal:
    """Make the databases of a timeline copies of another's as they are now, or empty, while others write to them: all of
    them, or none if one cannot be copied.

    `action` is what it is called, ``fork`` or ``reset``. `deploy`: the pre-deploy command is run on them afterwards. Raises
    ProvisionerError where that cannot be.
    """
    pairs = _pairs(registry, target, source)
    for goal, origin in pairs:
        may_be_replaced(registry, goal, action)
        if origin is not None and origin.id == goal.id:
            raise ProvisionerError(f"{goal.name} cannot be a fork of itself", "Name another branch")
    app = target.app

    def do(reporter: ProgressReporter) -> Iterator[str]:
        changes = [
            ReplacementData(
                goal,
                Source(origin) if origin is not None else None,
                f"a fork of {origin.name}" if origin is not None else "empty",
                scrubbing.rule(registry, app, origin),
            )
            for goal, origin in pairs
        ]
        replaced = put_in_place(
            *(registry, app, changes, now_ms()), action=action, with_queue=with_queue, deploy=deploy
        )
        for (_, origin), done in zip(pairs, replaced, strict=True):
            if origin is None:
                yield f"Emptied {done.database.name}"
            else:
                yield f"Forked {origin.name} to {done.database.name}{pause(done.made)}"
            yield was_kept(registry, done)
        yield from after_change(registry, app, target.timeline, reporter, wanted=deploy)

    users = shared_by(registry, [goal for goal, _ in pairs])
    copied = f"Replace {whose(target, [goal for goal, _ in pairs])} data with a copy of"
    if source is None:
        question = f"Empty {_what(target, [goal for goal, _ in pairs])}?"
    else:
        question = f"{copied} {_what(source, [origin for _, origin in pairs if origin is not None])}?"
    return Proposal(do, f"{question}{users} {becomes(registry, [goal for goal, _ in pairs])}")


def _pairs(registry: Registry, target: Target, source: Target | None) -> list[tuple[Database, Database | None]]:
    """Each database that is to be replaced, and what it becomes a copy of: they are on the same instance."""
    if source is not None and source.narrowed:
        wanted = frozenset(item.id for item in source.instances)
        if not wanted & {item.id for item in target.instances}:
            raise ProvisionerError(
                f"{source.own[0].name if source.own else source.name} and {target.name} are on two instances",
                "Choose an instance on which both are: --instance INSTANCE",
            )
        target = target.on(wanted)
    goals = own_of(registry, target)
    if source is None:
        return [(goal, None) for goal in goals]
    origins = {item.instance_id: item for item in all_used(source.on(frozenset(goal.instance_id for goal in goals)))}
    for goal in goals:
        if goal.instance_id not in origins:
            slug = registry.instance_of(goal.instance_id).slug
            raise NotResolved(
                f"{source.name} has no database on instance {slug!r}", "Choose another: --instance INSTANCE"
            )
    return [(goal, origins[goal.instance_id]) for goal in goals]


def own_of(registry: Registry, target: Target) -> tuple[Database, ...]:
    """All of a timeline's databases that are meant. Raises ProvisionerError where one is another timeline's that it only
    shares."""
    for item in target.shared:
        owner = shown(registry.timeline(item.timeline_id).name)
        raise ProvisionerError(
            f"{target.name} shares {item.name}, which is the database of {owner}",
            f"Name that one if it is meant, or first: provisioner database unshare {target.name}",
        )
    return all_used(target)


def _what(target: Target, databases: Sequence[Database]) -> str:
    """What is named in a question: the timeline where all of its databases are meant."""
    return ", ".join(item.name for item in databases) if target.narrowed else target.name


def whose(target: Target, databases: Sequence[Database]) -> str:
    return f"{_what(target, databases)}'s"


def becomes(registry: Registry, databases: Sequence[Database]) -> str:
    """For a question about other data in their place: what is kept of the current data."""
    gone = lost(registry, databases)
    count = len(databases) - len(gone)
    said = [f"The data of {', '.join(item.name for item in gone)} is lost, so none of it is kept"] if gone else []
    if count:
        said.append("Its current data becomes " + ("a snapshot" if count == 1 else f"{count} snapshots"))
    return ". ".join(reversed(said))


def shared_by(registry: Registry, databases: Iterable[Database]) -> str:
    """For a question about what happens to databases: a sentence that names who else uses them, if somebody does."""
    users = {os.fsdecode(item.name) for database in databases for item in queries.users_of(registry, database)}
    names = shown(", ".join(sorted(users)))
    return f" {names} {'uses' if len(users) == 1 else 'use'} it too." if users else ""


def was_kept(registry: Registry, done: Replaced) -> str:
    engine = engine_of(registry.storage_of(done.database))
    if done.kept_as is None:
        return "Previous data: none, because it was lost"
    return f"Previous data: snapshot {done.kept_as}. {engine.anew}"


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


def pause(made: CopyResult) -> str:
    if made.how:
        return f", {made.size} bytes, {made.how}"
    return f", {made.size} bytes; writers waited for {made.paused * 1000:.1f} ms at most"
