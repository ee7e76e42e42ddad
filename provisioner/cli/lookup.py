"""Which database is meant: by its name, its id, its timeline or branch, or by where one is."""

from __future__ import annotations

import os

from provisioner.cli.context import the_app
from provisioner.cli.terminal import TERMINAL
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.model import App, Database, Timeline
from provisioner.core.naming import shown
from provisioner.environment.resolve import Selectors, resolve, timeline_here
from provisioner.operations import lookup
from provisioner.operations.lookup import called, find, known_timeline, of_timeline, timeline_of
from provisioner.registry.store import Registry


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
    if called(registry, text):
        return find(registry, text)
    app = the_app(registry, slug)
    database = of_timeline(registry, app, os.fsencode(text), TERMINAL, instance)
    if own:
        _must_be_own(registry, app, os.fsencode(text), database)
    return app, database


def _must_be_own(registry: Registry, app: App, name: bytes, database: Database, *, exact: bool = False) -> None:
    owner = timeline_of(registry, database)
    timeline = known_timeline(registry, app, name, exact=exact)
    if timeline is not None and timeline.id != owner.id:
        raise ProvisionerError(
            f"{shown(timeline.name)} shares {database.name}, which is the database of {shown(owner.name)}",
            f"Name that one if it is meant, or first: provisioner database unshare {shown(name)}",
        )


def timeline_meant(registry: Registry, text: str | None, slug: str | None) -> tuple[App, Timeline]:
    """A timeline by its branch, or as ``DENO_TIMELINE`` has it, or that of the branch checked out here."""
    here = Selectors(app=slug)
    name = timeline_here(registry.home, here, os.getcwdb(), os.environ) if text is None else os.fsencode(text)
    app = the_app(registry, slug)
    return app, lookup.timeline_meant(registry, app, name, TERMINAL, exact=text is None)
