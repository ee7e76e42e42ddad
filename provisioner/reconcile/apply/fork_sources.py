"""What the database of a new timeline starts from: nothing, or another database's data, as its assignment says."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

from provisioner.core.ids import DatabaseId
from provisioner.core.model import App, Database, Timeline
from provisioner.core.naming import BRANCH_PREFIX
from provisioner.git.parents import parent
from provisioner.registry import queries
from provisioner.registry.store import Registry

EMPTY = "empty"
FORK = "fork:"
_PRODUCTION, _PARENT = FORK + "production", FORK + "parent"

Made = tuple[Timeline, Database]


def origins(registry: Registry, app: App, made: Sequence[Made]) -> Iterator[tuple[Database, DatabaseId | None, str]]:
    """For each new database that is not simply to be empty: the id of what it is to be a fork of, or None and why not.

    Its origin may be one of the new ones itself.
    """
    rules = registry.new_branches(app.id)
    if all(rules.get(database.instance_id, EMPTY) == EMPTY for _, database in made):
        return
    there = _there(registry, app, rules.values())
    found = {
        (timeline.branch, database.instance_id): database.id
        for timeline, database in (*_live(registry, there), *made)
        if not timeline.preview
    }
    by_id = {timeline.id: timeline.branch for timeline in there}
    for share in queries.shares_of_all(registry, by_id):
        found[by_id[share.timeline_id], share.instance_id] = share.database_id
    branches = {branch for branch, _ in found}
    for timeline, database in made:
        rule = rules.get(database.instance_id, EMPTY)
        if rule == EMPTY or not timeline.of_branch:
            continue
        source = _branch(app, timeline, rule, branches)
        if source is None:
            yield database, None, "git does not record which branch it was created from: it starts empty"
            continue
        origin = found.get((source, database.instance_id))
        if origin == database.id:
            continue  # the others are forks of this one
        shown = os.fsdecode(source)
        yield database, origin, f"a fork of {shown}" if origin else f"{shown} has no database: it starts empty"


def _there(registry: Registry, app: App, rules: Collection[str]) -> list[Timeline]:
    """The timelines that a database may be a fork of by these rules: all of an app's only if git must show which branch
    another was created from."""
    if _PARENT in rules:
        return [timeline for timeline in registry.timelines(app.id) if not timeline.preview]
    branches = {app.production}
    for rule in rules:
        if rule not in (EMPTY, _PRODUCTION):
            branch = os.fsencode(rule.removeprefix(FORK))
            branches |= {branch, branch.removeprefix(BRANCH_PREFIX)}
    return queries.of_branches(registry, app.id, branches)


def _live(registry: Registry, timelines: Sequence[Timeline]) -> Iterator[Made]:
    """The live databases of these timelines, each with its own."""
    by_id = {timeline.id: timeline for timeline in timelines}
    for database in queries.databases_of_all(registry, by_id):
        if database.live:
            yield by_id[database.timeline_id], database


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
