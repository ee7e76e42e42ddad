"""The page of one database: its state, its history, and its connection."""

from __future__ import annotations

import os
import shlex
from typing import Any

from starlette.responses import Response

from provisioner.core.connection import ConnectedDatabase, database_url, instance_prefix
from provisioner.core.errors import NotResolved
from provisioner.core.ids import DatabaseId
from provisioner.core.model import NO_SHARE, ConnectMode, Database, Status, Timeline
from provisioner.dashboard.pages.database_rows import database_of, use_of
from provisioner.dashboard.pages.states import state_of
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.engines.catalog import ENGINES, engine_of
from provisioner.engines.endpoints import reached
from provisioner.operations import documents
from provisioner.registry import tokens
from provisioner.system import secret_key


def page(visit: PageContext) -> Response:
    database, _, timeline = shown = found(visit)
    document = documents.document(database, documents.Reach(visit.registry, timeline.app_id))
    app = visit.registry.app(timeline.app_id)
    has_keys = ENGINES[document["engine"]].has_keys
    source = database_of(visit.registry, database.forked_from) if database.forked_from else None
    return visit.page(
        "database.html",
        **heading(visit, *shown),
        state=state_of(app, timeline, database),
        use=use_of(visit.registry, timeline, database),
        document=document,
        source=source,
        has_keys=has_keys,
        connected=database.settled,
        address=database_url(visit.shared.options.url, database.id) if has_keys else document["url"],
        psql=psql(shown[1], timeline, document["instance"]),
        history=visit.registry.events(database.id),
    )


def reveal(visit: PageContext) -> Response:
    """The connection with its credential: shown on request, and recorded in the audit log."""
    database, app_slug, timeline = connected(visit)
    engine = engine_of(visit.registry.storage_of(database))
    opening = _with_token(visit, database, timeline) if engine.has_keys else _as_role(visit, database, app_slug)
    visit.registry.record(
        visit.now,
        "token.reveal",
        visit.session.principal,
        app_id=timeline.app_id,
        database_id=database.id,
        detail="in the dashboard",
    )
    return visit.page(
        "reveal.html",
        **heading(visit, database, app_slug, timeline),
        what="token" if engine.has_keys else "password",
        opening=opening,
    )


def _with_token(visit: PageContext, database: Database, timeline: Timeline) -> dict[str, str]:
    """By their names: the URL, the token, and the file if there is one."""
    owned = tokens.ownership(visit.registry, database.id)
    token = secret_key.injected(secret_key.secret(visit.shared.home), database.id, owned[2] if owned else 0)
    found = {"URL": database_url(visit.shared.options.url, database.id), "Token": token}
    path = documents.document(database, documents.Reach(visit.registry, timeline.app_id))["path"]
    return {**found, "File": path} if path else found


def _as_role(visit: PageContext, database: Database, app_slug: str) -> dict[str, str]:
    """The variables that an app gets for it."""
    instance = visit.registry.storage_of(database)
    attached = ConnectedDatabase(
        share=NO_SHARE,
        instance=instance.slug,
        instance_id=instance.id,
        engine=instance.engine,
        location=instance.location,
        database_id=database.id,
        database_name=database.name,
        connect=ConnectMode.URL,
        generation=database.token_generation,
    )
    return reached(visit.shared.home, app_slug, attached).variables()


def psql(app_slug: str, timeline: Timeline, instance: str) -> str:
    """The command that opens psql on a timeline's database on an instance, which may not be its first on PostgreSQL."""
    name = shlex.quote(os.fsdecode(timeline.name))
    variable = f"{instance_prefix(instance)}_DATABASE_URL"
    return f"provisioner exec --app {app_slug} --timeline {name} -- sh -c 'psql ${variable}'"


def found(visit: PageContext) -> tuple[Database, str, Timeline]:
    """The database of the path, with its app's slug and its timeline. Raises Missing."""
    database_id = DatabaseId(visit.parameter("database_id"))
    database = database_of(visit.registry, database_id)
    if database is None:
        raise Missing("no such database", "List databases: provisioner database list --all")
    timeline = visit.registry.timeline(database.timeline_id)
    app = visit.registry.app(timeline.app_id)
    return database, app.slug if app else "", timeline


def heading(visit: PageContext, database: Database, app_slug: str, timeline: Timeline) -> dict[str, Any]:
    """The heading of each page of a database: it includes the instance, since a timeline may have several databases."""
    slug = visit.registry.instance_of(database.instance_id).slug
    return {"database": database, "app": app_slug, "timeline": timeline, "instance": slug}


def connected(visit: PageContext) -> tuple[Database, str, Timeline]:
    """The same, for a database that can be used now. Raises NotResolved."""
    database, app_slug, timeline = found(visit)
    if not database.settled:
        state = database.status if database.status is not Status.CONNECTED else f"busy ({database.intent})"
        raise NotResolved(
            f"database {database.name} is {state}, not connected",
            f"See: provisioner database show {database.name}",
        )
    return database, app_slug, timeline
