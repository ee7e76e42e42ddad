"""Which database is meant: by its name, its id, its timeline or branch, or by where one is."""

from __future__ import annotations

import os

from provisioner.cli.instances.finding import find as find_instance
from provisioner.cli.reconcile import run
from provisioner.cli.shared import the_app
from provisioner.errors import NotResolved, ProvisionerError
from provisioner.model import App, Database, Status, Timeline
from provisioner.naming import BRANCH_PREFIX, PRODUCTION, shown
from provisioner.registry.shares import shares
from provisioner.registry.store import Registry
from provisioner.resolving import Selectors, resolve, timeline_here


def find(registry: Registry, name: str) -> tuple[App, Database]:
    """A database by its name, or by its id (or the beginning of one). The live one of a name goes before archived."""
    found = [
        (app, database)
        for app in registry.apps()
        for database in registry.databases(app.id)
        if database.name == name or (len(name) >= 8 and database.id.startswith(name))
    ]
    live = [pair for pair in found if pair[1].live]
    if len(live) == 1:
        return live[0]
    if len(found) == 1:
        return found[0]
    if found:
        each = (f"{item.id} ({item.status} on {registry.instance_of(item.instance_id).slug})" for _, item in found)
        raise NotResolved(f"there are {len(found)} databases {name!r}", f"Say which by its id: {', '.join(each)}")
    raise NotResolved(f"there is no database {name!r}", "See 'provisioner database list --all'")


def meant(
    registry: Registry, text: str | None, slug: str | None, instance: str | None = None, *, own: bool = False
) -> tuple[App, Database]:
    """A database by its name or id, by its timeline or branch in the app, or that of the branch checked out here.

    Where the timeline has several, it is the one on `instance`, else on the instance that was assigned first. With `own`
    it is refused where it is another timeline's that the one that is named only shares.
    """
    if text is None:
        connection, _ = resolve(registry.home, Selectors(app=slug), os.getcwdb(), os.environ)
        app = registry.app(connection.app_id)
        attached = next((each for each in connection.databases if instance in (None, each.instance)), None)
        if attached is None:
            raise NotResolved(
                f"instance {instance!r} is not assigned to app {connection.app_slug!r}",
                "See 'provisioner instance list'",
            )
        database = registry.database(attached.database_id)
        assert app is not None  # noqa: S101
        assert database is not None  # noqa: S101
        if own:
            _must_be_own(registry, app, os.fsencode(connection.timeline), database, exact=True)
        return app, database
    named = [
        (app, database)
        for app in registry.apps()
        for database in registry.databases(app.id)
        if database.name == text or (len(text) >= 8 and database.id.startswith(text))
    ]
    if named:
        return find(registry, text)
    app = the_app(registry, slug)
    database = of_timeline(registry, app, os.fsencode(text), instance)
    if own:
        _must_be_own(registry, app, os.fsencode(text), database)
    return app, database


def _must_be_own(registry: Registry, app: App, name: bytes, database: Database, *, exact: bool = False) -> None:
    owner = timeline_of(registry, app, database)
    timeline = _timeline(registry, app, name, exact=exact)
    if timeline is not None and timeline.id != owner.id:
        raise ProvisionerError(
            f"{shown(timeline.name)} shares {database.name}, which is the database of {shown(owner.name)}",
            f"Name that one if it is meant, or first: provisioner database unshare {shown(name)}",
        )


def of_timeline(
    registry: Registry, app: App, name: bytes, instance: str | None = None, *, exact: bool = False
) -> Database:
    """The database that a timeline uses, its own or one that it shares.

    It is named by its branch or as ``DENO_TIMELINE`` has it, with `exact` only so. A branch that git has and the registry
    does not know yet is provisioned first. Raises NotResolved, also where one timeline is called as another's branch is.
    """
    timeline = _timeline(registry, app, name, exact=exact)
    if timeline is None:
        run(registry, app, "database", retry=False)
        timeline = _timeline(registry, app, name, exact=exact)
    found = {database.instance_id: database for database in _live(registry, app, timeline)}
    if timeline is not None:
        found |= _shared(registry, app, timeline)
    wanted = registry.assigned(app.id) if instance is None else [find_instance(registry, instance)]
    for assigned in wanted:
        if assigned.id in found:
            return found[assigned.id]
    away = [
        item.name
        for item in registry.databases(app.id)
        if timeline is not None and item.timeline_id == timeline.id and item.status is Status.ARCHIVED
        if item.instance_id in {each.id for each in wanted}
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


def timeline_meant(registry: Registry, text: str | None, slug: str | None) -> tuple[App, Timeline]:
    """A timeline by its branch, or as ``DENO_TIMELINE`` has it, or that of the branch checked out here."""
    here = Selectors(app=slug)
    name = timeline_here(registry.home, here, os.getcwdb(), os.environ) if text is None else os.fsencode(text)
    app = the_app(registry, slug)
    found = _timeline(registry, app, name, exact=text is None)
    if found is None:
        run(registry, app, "timeline", retry=False)
        found = _timeline(registry, app, name, exact=text is None)
    if found is None:
        raise NotResolved(
            f"app {app.slug!r} has no branch or timeline {shown(name)!r}", "See 'provisioner timeline list'"
        )
    return app, found


def timeline_of(registry: Registry, app: App, database: Database) -> Timeline:
    return next(timeline for timeline in registry.timelines(app.id) if timeline.id == database.timeline_id)


def _timeline(registry: Registry, app: App, name: bytes, *, exact: bool) -> Timeline | None:
    """By the name of a timeline or, not `exact`, of a branch. Raises NotResolved where it is both."""
    by_name = {timeline.name: timeline for timeline in registry.timelines(app.id)}
    if exact or name == app.production:
        return by_name.get(PRODUCTION if name == app.production and not exact else name)
    timeline, branch = by_name.get(name), by_name.get(BRANCH_PREFIX + name)
    if timeline is not None and branch is not None and branch.gone_at is None:
        other = (
            f"{shown(app.production)} for production's" if timeline.production else "its database's name for the other"
        )
        raise NotResolved(
            f"{shown(name)} is a timeline of app {app.slug!r}, and a branch is called so too",
            f"Say {shown(branch.name)} for the branch's, {other}",
        )
    return timeline or branch


def _live(registry: Registry, app: App, timeline: Timeline | None) -> list[Database]:
    if timeline is None:
        return []
    return [item for item in registry.databases(app.id) if item.live and item.timeline_id == timeline.id]


def _shared(registry: Registry, app: App, timeline: Timeline) -> dict[str, Database]:
    """By instance, the databases of others that a timeline uses."""
    mine = [share for share in shares(registry, app.id) if share.timeline_id == timeline.id]
    found = {share.instance_id: registry.database(share.database_id) for share in mine}
    return {instance_id: database for instance_id, database in found.items() if database is not None and database.live}
