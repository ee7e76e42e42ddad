"""What the database of a new timeline starts from: nothing, or another database's data, as its assignment says."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from provisioner.core.ids import DatabaseId, InstanceId
from provisioner.core.model import App, Database, Timeline
from provisioner.core.naming import BRANCH_PREFIX
from provisioner.git.parents import parent
from provisioner.registry import queries
from provisioner.registry.store import Registry

EMPTY = "empty"
FORK = "fork:"
_PRODUCTION, _PARENT = FORK + "production", FORK + "parent"

Made = tuple[Timeline, Database]
_Place = tuple[bytes, InstanceId]
_Used = dict[_Place, DatabaseId]


def origins(registry: Registry, app: App, made: Sequence[Made]) -> Iterator[tuple[Database, DatabaseId | None, str]]:
    """For each new database that is not simply to be empty: the id of what it is to be a fork of, or None and why not.

    Its origin may be one of the new ones itself.
    """
    rules = registry.new_branches(app.id)
    if all(rules.get(database.instance_id, EMPTY) == EMPTY for _, database in made):
        return
    new = {(timeline.branch, database.instance_id): database.id for timeline, database in made if not timeline.preview}
    branches = _Branches(registry, app, frozenset(branch for branch, _ in new))
    wanted = [
        (timeline, database, _branch(app, timeline, rule, branches))
        for timeline, database in made
        if (rule := rules.get(database.instance_id, EMPTY)) != EMPTY and timeline.of_branch
    ]
    found = _used(registry, app, {source for _, _, source in wanted if source is not None}, new)
    for _, database, source in wanted:
        if source is None:
            yield database, None, "git does not record which branch it was created from: it starts empty"
            continue
        origin = found.get((source, database.instance_id))
        if origin == database.id:
            continue  # the others are forks of this one
        shown = os.fsdecode(source)
        yield database, origin, f"a fork of {shown}" if origin else f"{shown} has no database: it starts empty"


def _used(registry: Registry, app: App, branches: Collection[bytes], new: Mapping[_Place, DatabaseId]) -> _Used:
    """What is used on these branches: shared databases, then the `new` ones, then live ones."""
    there = {timeline.id: timeline.branch for timeline in queries.of_branches(registry, app.id, branches)}
    live = (database for database in queries.databases_of_all(registry, there) if database.live)
    found: _Used = {(there[database.timeline_id], database.instance_id): database.id for database in live}
    found |= new
    for share in queries.shares_of_all(registry, there):
        found[there[share.timeline_id], share.instance_id] = share.database_id
    return found


@dataclass(frozen=True, slots=True)
class _Branches:
    """The branches of an app whose data a new branch may start from, the `new` ones included."""

    registry: Registry
    app: App
    new: frozenset[bytes]

    def among(self, names: Collection[bytes]) -> set[bytes]:
        return queries.branches_with_data(self.registry, self.app.id, names) | self.new.intersection(names)

    def all(self) -> set[bytes]:
        return queries.branches_with_data(self.registry, self.app.id) | self.new


def _branch(app: App, timeline: Timeline, rule: str, branches: _Branches) -> bytes | None:
    if rule == _PRODUCTION:
        return app.production
    if rule == _PARENT:
        return parent(app.git_dir, timeline.branch, branches, app.production)
    return named(rule, branches.among)


def named(rule: str, among: Callable[[Collection[bytes]], set[bytes]]) -> bytes | None:
    """The branch that a rule names, also as ``status`` shows it; None where it names none, but production or a parent."""
    if rule in (EMPTY, _PRODUCTION, _PARENT):
        return None
    branch = os.fsencode(rule.removeprefix(FORK))
    short = branch.removeprefix(BRANCH_PREFIX)
    known = among({branch, short})
    return short if branch not in known and short in known else branch
