"""Replacing the data of a timeline's databases: fork, reset, and what both share with restore."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.confirmation import name_to_type
from provisioner.core.counts import counted, verb
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.model import PRE_DEPLOY_MS, App, Database, Scrub
from provisioner.core.naming import shown
from provisioner.engines.catalog import engine_of
from provisioner.engines.protocol.engine import CopyResult, Source
from provisioner.operations.deploys import after_change
from provisioner.operations.documents import size_text
from provisioner.operations.lookup import timeline_of
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.target import Target, all_used
from provisioner.reconcile.apply.lost_data import lost, must_be_known
from provisioner.reconcile.changes.replace import Replaced, ReplacementData, put_in_place
from provisioner.registry import queries
from provisioner.registry.store import Registry


@dataclass(frozen=True, slots=True)
class Scrubbing:
    """The scrub options: None means not given, and an empty command means none."""

    command: str | None = None
    limit_ms: int | None = None

    def rule(self, registry: Registry, app: App, origin: Database | None) -> Scrub | None:
        """The scrub of a copy of `origin`: the given one, else the assignment's if it copies production."""
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
    """Make a timeline's databases copies of another's current data, or empty, while programs write to them: all of
    them, or none if one cannot be copied.

    `action` is ``fork`` or ``reset``. `deploy`: run the pre-deploy command on them afterwards. Raises ProvisionerError if
    that cannot be done.
    """
    pairs = _pairs(registry, target, source)
    past = {item.database_id: item for item in source.past} if source is not None else {}
    must_be_known(registry, [goal for goal, _ in pairs])
    for goal, origin in pairs:
        may_be_replaced(registry, goal, action)
        if origin is not None and origin.id == goal.id and goal.id not in past:
            raise ProvisionerError(f"{goal.name} cannot be a fork of itself", "Choose another branch")
    app = target.app

    def do(reporter: ProgressReporter) -> Iterator[str]:
        changes = [
            ReplacementData(
                goal,
                Source(origin, past[origin.id].id if origin.id in past else None) if origin is not None else None,
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
            elif origin.id in past:
                taken = rfc3339(past[origin.id].created_at)
                yield f"Forked {origin.name} as of {taken} to {done.database.name}{pause(done.made)}"
            else:
                yield f"Forked {origin.name} to {done.database.name}{pause(done.made)}"
            yield was_kept(registry, done)
        yield from after_change(registry, app, target.timeline, reporter, wanted=deploy)

    users = shared_by(registry, [goal for goal, _ in pairs])
    copied = f"Replace {whose(target, [goal for goal, _ in pairs])} data with a copy of"
    if source is None:
        question = f"Empty {_what(target, [goal for goal, _ in pairs])}?"
    else:
        then = f" as of {rfc3339(min(item.created_at for item in source.past))}" if source.past else ""
        question = f"{copied} {_what(source, [origin for _, origin in pairs if origin is not None])}{then}?"
    return Proposal(do, f"{question}{users} {becomes(registry, [goal for goal, _ in pairs])}")


def _pairs(registry: Registry, target: Target, source: Target | None) -> list[tuple[Database, Database | None]]:
    """Each database to replace, and the database on the same instance that it becomes a copy of."""
    if source is not None and source.narrowed:
        wanted = frozenset(item.id for item in source.instances)
        if not wanted & {item.id for item in target.instances}:
            raise ProvisionerError(
                f"{source.own[0].name if source.own else source.name} and {target.name} are on different instances",
                "Choose an instance that both have: --instance INSTANCE",
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
    """All of a timeline's databases in question. Raises ProvisionerError if one belongs to another timeline that shares
    it."""
    for item in target.shared:
        owner = shown(registry.timeline(item.timeline_id).name)
        raise ProvisionerError(
            f"{target.name} shares {item.name}, which is the database of {owner}",
            f"To replace that one's data, use its name; or first run: provisioner database unshare {target.name}",
        )
    return all_used(target)


def _what(target: Target, databases: Sequence[Database]) -> str:
    """The name in a question: the timeline's if it is about all of its databases."""
    return ", ".join(item.name for item in databases) if target.narrowed else target.name


def whose(target: Target, databases: Sequence[Database]) -> str:
    return f"{_what(target, databases)}'s"


def becomes(registry: Registry, databases: Sequence[Database]) -> str:
    """For a question about replacing data: what becomes of the current data."""
    gone = lost(registry, databases)
    count = len(databases) - len(gone)
    said = [f"The data of {', '.join(item.name for item in gone)} is lost, so none of it is kept"] if gone else []
    if count:
        said.append("Its current data becomes " + ("a snapshot" if count == 1 else counted(count, "snapshot")))
    return " ".join(f"{sentence}." for sentence in reversed(said))


def shared_by(registry: Registry, databases: Iterable[Database]) -> str:
    """For a question about databases: a sentence that names the other timelines that use them, if there are any."""
    users = {os.fsdecode(item.name) for database in databases for item in queries.users_of(registry, database)}
    names = shown(", ".join(sorted(users)))
    return f" {names} {verb(len(users), 'uses', 'use')} it too." if users else ""


def at_stake(registry: Registry, app: App, database: Database) -> tuple[str, str]:
    """For a question about a database's data: a sentence about the other timelines that use it, and the word to type if it is
    production's. A timeline that shares production's database has production's at stake."""
    return shared_by(registry, [database]), name_to_type(app, registry.timeline(database.timeline_id))


def was_kept(registry: Registry, done: Replaced) -> str:
    engine = engine_of(registry.storage_of(done.database))
    if done.kept_as is None:
        return "Previous data: none, because it was lost"
    return f"Previous data: snapshot {done.kept_as}. {engine.anew}"


def may_be_replaced(registry: Registry, database: Database, action: str) -> None:
    """Raises ProvisionerError if this database's data must not be replaced."""
    timeline = timeline_of(registry, database)
    if timeline.protected:
        name = shown(timeline.name)
        raise ProvisionerError(
            f"cannot {action} {database.name}: its timeline is protected",
            f"To allow this, run: provisioner timeline unprotect {name}",
        )
    if timeline.production:
        raise ProvisionerError(
            f"cannot {action} {database.name}: it holds production data",
            f"To restore a snapshot instead, see: provisioner database snapshot list {database.name}",
        )


def pause(made: CopyResult) -> str:
    """The size of a copy, and how long writers waited for it."""
    how = made.how or f"writers waited at most {made.paused * 1000:.1f} ms"
    return f" ({size_text(made.size)}; {how})"
