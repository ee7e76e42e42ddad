"""A target's data at a moment: the snapshots that hold it, by id, label, commit, or time, and the timeline it was forked from."""

from __future__ import annotations

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.errors import Ambiguous, NotResolved, UsageError
from provisioner.core.model import Snapshot
from provisioner.core.moments import moment
from provisioner.core.naming import shown
from provisioner.core.nearest import nearest
from provisioner.operations import snapshots as by_id
from provisioner.operations.target import Target, of_timeline
from provisioner.reconcile.changes.revision_snapshots import REVISION
from provisioner.registry import snapshots as rows
from provisioner.registry.store import Registry

PARENT = "parent"


def at(registry: Registry, target: Target, text: str) -> list[Snapshot]:
    """The snapshots of a target that MOMENT means, one of each of its databases. Raises NotResolved, Ambiguous."""
    kept = {item.id: rows.snapshots(registry, item.id) for item in target.used or target.own}
    every = [snapshot for each in kept.values() for snapshot in each]
    found = _named(registry, target, text, every)
    if found:
        return found
    try:
        when = moment(text, now_ms())
    except UsageError as error:
        if len(text) >= by_id.SHORTEST_ID and rows.find_snapshots(registry, text):  # of another database
            return by_id.of_target(registry, target, by_id.find(registry, text))
        labels = {item.label for item in every if item.label}
        raise NotResolved(
            f"{target.name} has no snapshot {shown(text)!r}",
            f"List them: provisioner database snapshot list {target.name}",
            candidates=nearest(text, labels),
        ) from error
    return _before(registry, target, when, next(iter(kept.values()), []))


def parent(registry: Registry, target: Target) -> Target:
    """The timeline that a target's databases were forked from. Raises NotResolved if there is none, or if there are several."""
    origins = [registry.database(item.forked_from) for item in target.live if item.forked_from is not None]
    ids = {item.timeline_id for item in origins if item is not None}
    if not ids:
        raise NotResolved(
            f"{target.name} was not forked from another timeline", "Choose the other one, for example: production"
        )
    found = [registry.timeline(each) for each in ids]
    if len(found) > 1:
        names = [shown(item.name) for item in found]
        raise Ambiguous(
            f"the databases of {target.name} were forked from {' and '.join(names)}", "Choose one", candidates=names
        )
    slug = target.instances[0].slug if target.narrowed else None
    return of_timeline(registry, target.app, found[0], slug)


def _named(registry: Registry, target: Target, text: str, every: list[Snapshot]) -> list[Snapshot]:
    """By the beginning of an id, a label, or a commit. Raises Ambiguous if that means several."""
    hexadecimal = not text.lower().strip("0123456789abcdef-")
    ids = [item for item in every if len(text) >= by_id.SHORTEST_ID and item.id.startswith(text.lower())]
    commits = [
        item
        for item in every
        if hexadecimal and len(text) >= by_id.SHORTEST_REVISION and item.revision.startswith(text.lower())
    ]
    commits = [item for item in commits if item.cause == REVISION] or commits
    readings = [ids, [item for item in every if item.label == text], commits]
    newest = {max(each, key=lambda item: item.created_at).id: each for each in readings if each}
    if len(newest) > 1 or len({item.set_id or item.id for item in ids}) > 1:
        there = [item.id for each in readings for item in each]
        raise Ambiguous(
            f"{shown(text)!r} means several snapshots of {target.name}",
            f"Use the id of one: {', '.join(dict.fromkeys(there))}",
            candidates=tuple(dict.fromkeys(there)),
        )
    return [] if not newest else by_id.of_target(registry, target, rows.find_snapshots(registry, next(iter(newest)))[0])


def _before(registry: Registry, target: Target, when: int, kept: list[Snapshot]) -> list[Snapshot]:
    """The latest that was taken by then, of all of the target's databases together."""
    for snapshot in kept:
        if snapshot.created_at <= when:
            return by_id.of_target(registry, target, snapshot)
    oldest = f"the oldest is of {rfc3339(kept[-1].created_at)}" if kept else "it has none"
    raise NotResolved(
        f"{target.name} has no snapshot from {rfc3339(when)} or before: {oldest}",
        f"List them: provisioner database snapshot list {target.name}",
    )
