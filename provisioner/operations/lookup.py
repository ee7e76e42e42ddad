"""Databases by their names and ids, and timelines by theirs."""

from __future__ import annotations

import os

from provisioner.core.errors import NotResolved
from provisioner.core.model import App, Database, Status, Timeline
from provisioner.core.naming import BRANCH_PREFIX, PRODUCTION, shown
from provisioner.engines.postgres import names
from provisioner.operations.instances import find as find_instance
from provisioner.operations.proposal import Told
from provisioner.operations.reconcile_now import run
from provisioner.registry import queries
from provisioner.registry.store import Registry

_PARTS = 2  # the kind and the instance, before the id in a name that a server has; no other name has an underscore


def find(registry: Registry, name: str) -> tuple[App, Database]:
    """A database by its name, or by its id (or the beginning of one). The live one of a name goes before archived."""
    found = called(registry, name)
    live = [pair for pair in found if pair[1].live]
    if len(live) == 1:
        return live[0]
    if len(found) == 1:
        return found[0]
    if found:
        each = (f"{item.id} ({item.status} on {registry.instance_of(item.instance_id).slug})" for _, item in found)
        raise NotResolved(f"there are {len(found)} databases {name!r}", f"Say which by its id: {', '.join(each)}")
    raise NotResolved(f"there is no database {name!r}", "See 'provisioner database list --all'")


def called(registry: Registry, text: str) -> list[tuple[App, Database]]:
    """The databases of this name, or whose id begins so, or that a server has under this name."""
    return queries.databases_called(registry, text, names.id_of(text) if text.count("_") >= _PARTS else text)


def meant(registry: Registry, app: App, text: str, told: Told, instance: str | None = None) -> Database:
    """A database by its name or id, or by its timeline or branch in the app, on `instance` where that has several."""
    if called(registry, text):
        return find(registry, text)[1]
    return of_timeline(registry, app, os.fsencode(text), told, instance)


def of_timeline(
    registry: Registry, app: App, name: bytes, told: Told, instance: str | None = None, *, exact: bool = False
) -> Database:
    """The database that a timeline uses, its own or one that it shares.

    It is named by its branch or as ``DENO_TIMELINE`` has it, with `exact` only so. A branch that git has and the registry
    does not know yet is provisioned first. Raises NotResolved, also where one timeline is called as another's branch is.
    """
    timeline = timeline_named(registry, app, name, told, exact=exact)
    own = [] if timeline is None else queries.databases_of(registry, timeline)
    others = [] if timeline is None else queries.used_of_others(registry, timeline)
    found = {database.instance_id: database for database in (*own, *others) if database.live}
    wanted = registry.assigned(app.id) if instance is None else [find_instance(registry, instance)]
    for assigned in wanted:
        if assigned.id in found:
            return found[assigned.id]
    away = [
        item.name for item in own if item.status is Status.ARCHIVED and item.instance_id in {each.id for each in wanted}
    ]
    if away:
        raise NotResolved(
            f"database {away[0]!r} of {shown(name)} is archived",
            f"Bring it back: provisioner database recover {away[0]}",
        )
    where = f" on instance {instance}" if instance else ""
    raise NotResolved(
        f"app {app.slug!r} has no branch, timeline or database {shown(name)!r} with a live database{where}",
        f"See 'provisioner status', or 'provisioner database list --app {app.slug}'",
    )


def timeline_named(registry: Registry, app: App, name: bytes, told: Told, *, exact: bool = False) -> Timeline | None:
    """A timeline by its branch, or as ``DENO_TIMELINE`` has it, with `exact` only so; one that is new is made first.

    Raises NotResolved where the name is that of one timeline and of another's branch.
    """
    found = known_timeline(registry, app, name, exact=exact)
    if found is None:
        run(registry, app, "timeline", told, retry=False)
        found = known_timeline(registry, app, name, exact=exact)
    return found


def timeline_meant(registry: Registry, app: App, name: bytes, told: Told, *, exact: bool = False) -> Timeline:
    """As `timeline_named`, which has to be there. Raises NotResolved."""
    found = timeline_named(registry, app, name, told, exact=exact)
    if found is None:
        raise NotResolved(
            f"app {app.slug!r} has no branch or timeline {shown(name)!r}", "See 'provisioner timeline list'"
        )
    return found


def timeline_of(registry: Registry, database: Database) -> Timeline:
    return registry.timeline(database.timeline_id)


def known_timeline(registry: Registry, app: App, name: bytes, *, exact: bool) -> Timeline | None:
    """By the name of a timeline or, not `exact`, of a branch. Raises NotResolved where it is both."""
    if exact or name == app.production:
        called = PRODUCTION if name == app.production and not exact else name
        return queries.timeline_called(registry, app.id, called)
    timeline = queries.timeline_called(registry, app.id, name)
    branch = queries.timeline_called(registry, app.id, BRANCH_PREFIX + name)
    if timeline is not None and branch is not None and branch.gone_at is None:
        other = (
            f"{shown(app.production)} for production's" if timeline.production else "its database's name for the other"
        )
        raise NotResolved(
            f"{shown(name)} is a timeline of app {app.slug!r}, and a branch is called so too",
            f"Say {shown(branch.name)} for the branch's, {other}",
        )
    return timeline or branch
