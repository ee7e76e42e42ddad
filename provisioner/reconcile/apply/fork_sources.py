"""What the database of a new timeline begins with: nothing, or another database's data, as its assignment says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from provisioner.core.model import App, Database, Timeline
from provisioner.core.naming import BRANCH_PREFIX
from provisioner.git.parents import parent
from provisioner.registry.shares import shares
from provisioner.registry.store import Registry

EMPTY = "empty"
FORK = "fork:"
_PRODUCTION, _PARENT = FORK + "production", FORK + "parent"

Made = tuple[Timeline, Database]


def origins(registry: Registry, app: App, made: Sequence[Made]) -> Iterator[tuple[Database, str | None, str]]:
    """For each new database that is not simply to be empty: the id of what it is to be a fork of, or None and why not.

    Its origin may be one of the new ones itself.
    """
    rules = registry.new_branches(app.id)
    if all(rules.get(database.instance_id, EMPTY) == EMPTY for _, database in made):
        return
    timelines = {timeline.id: timeline for timeline in registry.timelines(app.id) if not timeline.preview}
    there = [
        (timelines[database.timeline_id], database)
        for database in registry.databases(app.id)
        if database.live and database.timeline_id in timelines
    ]
    found = {
        (timeline.branch, database.instance_id): database.id
        for timeline, database in (*there, *made)
        if not timeline.preview
    }
    for share in shares(registry, app.id):
        if share.timeline_id in timelines:
            found[(timelines[share.timeline_id].branch, share.instance_id)] = share.database_id
    branches = {branch for branch, _ in found}
    for timeline, database in made:
        rule = rules.get(database.instance_id, EMPTY)
        if rule == EMPTY or not timeline.of_branch:
            continue
        source = _branch(app, timeline, rule, branches)
        if source is None:
            yield database, None, "from which branch it was made cannot be told: it begins empty"
            continue
        origin = found.get((source, database.instance_id))
        if origin == database.id:
            continue  # the others are forks of this one
        shown = os.fsdecode(source)
        yield database, origin, f"a fork of {shown}" if origin else f"{shown} has no database: it begins empty"


def _branch(app: App, timeline: Timeline, rule: str, known: set[bytes]) -> bytes | None:
    if rule == _PRODUCTION:
        return app.production
    if rule == _PARENT:
        return parent(app.git_dir, timeline.branch, known, app.production)
    return named(rule, known)


def named(rule: str, known: set[bytes]) -> bytes | None:
    """The branch that a rule names, also as ``status`` shows it; None where it names none, but production or a parent."""
    if rule in (EMPTY, _PRODUCTION, _PARENT):
        return None
    branch = os.fsencode(rule.removeprefix(FORK))
    short = branch.removeprefix(BRANCH_PREFIX)
    return short if branch not in known and short in known else branch
