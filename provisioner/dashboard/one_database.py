"""The page of one database: how it is, what was done to it, and how it is reached."""

from __future__ import annotations

from starlette.responses import Response

from provisioner import keys, view
from provisioner.dashboard.listing import database_of, written_at
from provisioner.dashboard.visiting import Missing, Visit
from provisioner.environment import database_url
from provisioner.errors import NotResolved
from provisioner.model import Database, Status, Timeline
from provisioner.registry import tokens


def page(visit: Visit) -> Response:
    database, app_slug, timeline = found(visit)
    document = view.document(database, view.Reach(visit.registry, timeline.app_id))
    source = database_of(visit.registry, database.forked_from) if database.forked_from else None
    return visit.page(
        "database.html",
        database=database,
        timeline=timeline,
        app=app_slug,
        document=document,
        source=source,
        written_at=written_at(document["path"]),
        connected=database.status is Status.CONNECTED and database.intent is None,
        address=database_url(visit.shared.options.url, database.id),
        history=visit.registry.events(database.id),
    )


def reveal(visit: Visit) -> Response:
    """How it is reached, with a token that opens it: told to who asks for it, and noted in the audit log."""
    database, app_slug, timeline = connected(visit)
    owned = tokens.ownership(visit.registry, database.id)
    token = keys.injected(keys.secret(visit.shared.home), database.id, owned[2] if owned else 0)
    visit.registry.record(
        visit.now,
        "token.reveal",
        visit.session.principal,
        app_id=timeline.app_id,
        database_id=database.id,
        detail="in the dashboard",
    )
    document = view.document(database, view.Reach(visit.registry, timeline.app_id))
    return visit.page(
        "reveal.html",
        database=database,
        timeline=timeline,
        app=app_slug,
        address=database_url(visit.shared.options.url, database.id),
        path=document["path"],
        token=token,
    )


def found(visit: Visit) -> tuple[Database, str, Timeline]:
    """The database of the path, with its app's slug and its timeline. Raises Missing."""
    database_id = visit.parameter("database_id")
    database = database_of(visit.registry, database_id)
    if database is None:
        raise Missing("there is no such database", "See 'provisioner database list --all'")
    timeline = visit.registry.timeline(database.timeline_id)
    app = visit.registry.app(timeline.app_id)
    return database, app.slug if app else "", timeline


def connected(visit: Visit) -> tuple[Database, str, Timeline]:
    """The same, of one that may be used now. Raises NotResolved."""
    database, app_slug, timeline = found(visit)
    if database.status is not Status.CONNECTED or database.intent is not None:
        state = database.status if database.status is not Status.CONNECTED else f"busy ({database.intent})"
        raise NotResolved(
            f"database {database.name} is {state}, not connected",
            f"See: provisioner database show {database.name}",
        )
    return database, app_slug, timeline
