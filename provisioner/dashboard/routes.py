"""The addresses of pages and of changes."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from provisioner.connect.protocol.http_errors import Refused
from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import DatabaseId, RunId
from provisioner.dashboard.pages import (
    activity,
    app,
    assignments,
    database_changes,
    explorer,
    instance,
    instance_changes,
    key_editor,
    overview,
    previews,
    run,
    settings,
    snapshots,
    suggest,
    timeline,
    timeline_changes,
    variables,
)
from provisioner.dashboard.pages import database as one_database
from provisioner.dashboard.pages.hosting import app_changes, deploys, logs, open_preview, run_form
from provisioner.dashboard.web import login, rendering
from provisioner.dashboard.web.context import SharedResources
from provisioner.dashboard.web.endpoint import Endpoint, Sent, endpoint
from provisioner.dashboard.web.forms import Form, Propose, change
from provisioner.dashboard.web.sse import MOST, State
from provisioner.kv.errors import KvError
from provisioner.runs.process import log_path


def routes(shared: SharedResources) -> list[Route]:
    """All routes. Every change is a POST: a test sends each of those requests without its protections."""

    def page(path: str, visited: Any, **how: Any) -> Route:
        return Route(path, endpoint(shared, visited, **how), methods=["GET"])

    def changes(path: str, propose: Propose, form: Form | None = None) -> Route:
        return post(path, change(propose, form), sent=Sent.QUESTION if form is None else Sent.FORM)

    def post(path: str, visited: Any, **how: Any) -> Route:
        return Route(path, endpoint(shared, visited, **how), methods=["POST"])

    return [
        Route("/static/{name}", _asset, methods=["GET"]),
        Route("/login", login.form, methods=["GET"]),
        Route("/login", login.log_in(shared), methods=["POST"]),
        post("/logout", login.log_out, reads=True),
        Route("/alive", login.alive(shared), methods=["GET"]),
        Route("/events", _events(shared), methods=["GET"]),
        Route("/databases/{database_id}/events", _events(shared), methods=["GET"]),
        page("/", overview.page),
        page("/add-instance", instance_changes.adding),
        changes("/add-instance", instance_changes.add, instance_changes.adding),
        page("/instances/{slug}", instance.page),
        page("/instances/{slug}/edit", instance_changes.editing),
        changes("/instances/{slug}/edit", instance_changes.edit, instance_changes.editing),
        post("/instances/{slug}/test", instance_changes.test),
        changes("/instances/{slug}/fix", instance_changes.fix),
        changes("/instances/{slug}/delete", instance_changes.delete),
        changes("/deleted/{instance_id}/recover", instance_changes.recover),
        page("/assign", assignments.form),
        changes("/assign", assignments.assign, assignments.form),
        changes("/unassign", assignments.unassign),
        page("/apps/{slug}", app.page),
        page("/apps/{slug}/names", suggest.suggest),
        page("/apps/{slug}/previews", previews.page),
        changes("/apps/{slug}/previews", previews.create, previews.again),
        page("/apps/{slug}/variables", variables.page),
        changes("/apps/{slug}/variables", variables.assign, variables.again),
        changes("/apps/{slug}/variables/unset", variables.unset),
        page("/apps/{slug}/settings", settings.page),
        changes("/apps/{slug}/settings", settings.change, settings.again),
        changes("/apps/{slug}/run", run_form.change, settings.again),
        changes("/apps/{slug}/run/end", run_form.end),
        page("/timelines/{timeline_id}", timeline.page),
        changes("/timelines/{timeline_id}/protect", timeline_changes.protect),
        changes("/timelines/{timeline_id}/unprotect", timeline_changes.unprotect),
        changes("/timelines/{timeline_id}/expire", timeline_changes.expire, timeline.again),
        changes("/timelines/{timeline_id}/share", timeline_changes.share, timeline.again),
        changes("/timelines/{timeline_id}/unshare", timeline_changes.unshare),
        changes("/timelines/{timeline_id}/fix", timeline_changes.fix),
        changes("/timelines/{timeline_id}/delete", timeline_changes.delete_preview),
        page("/timelines/{timeline_id}/runs/{run_id}", run.page),
        Route("/timelines/{timeline_id}/runs/{run_id}/events", _events(shared), methods=["GET"]),
        page("/timelines/{timeline_id}/deploys", deploys.page),
        page("/timelines/{timeline_id}/logs", logs.page),
        Route("/timelines/{timeline_id}/logs/events", _events(shared), methods=["GET"]),
        changes("/timelines/{timeline_id}/app/start", app_changes.start),
        changes("/timelines/{timeline_id}/app/stop", app_changes.stop),
        changes("/timelines/{timeline_id}/app/redeploy", app_changes.redeploy),
        changes("/timelines/{timeline_id}/app/rollback", app_changes.roll_back),
        changes("/timelines/{timeline_id}/app/lock", app_changes.lock),
        changes("/timelines/{timeline_id}/app/unlock", app_changes.unlock),
        page("/activity", activity.page),
        page("/open-preview", open_preview.open_preview),
        page("/databases/{database_id}", one_database.page),
        post("/databases/{database_id}/reveal", one_database.reveal),
        changes("/databases/{database_id}/archive", database_changes.archive),
        changes("/databases/{database_id}/recover", database_changes.recover),
        changes("/databases/{database_id}/fix", database_changes.fix),
        changes("/databases/{database_id}/purge", database_changes.purge),
        page("/databases/{database_id}/copies", snapshots.page),
        changes("/databases/{database_id}/fork", snapshots.fork, snapshots.again),
        changes("/databases/{database_id}/reset", snapshots.reset, snapshots.again),
        changes("/databases/{database_id}/restore", snapshots.restore, snapshots.again),
        changes("/databases/{database_id}/snapshots", snapshots.keep, snapshots.again),
        changes("/databases/{database_id}/snapshots/delete", snapshots.forget),
        page("/databases/{database_id}/keys", explorer.keys, store=True),
        page("/databases/{database_id}/entry", explorer.entry, store=True),
        page("/databases/{database_id}/changes", explorer.changes, store=True),
        page("/databases/{database_id}/new", key_editor.blank, store=True),
        page("/databases/{database_id}/edit", key_editor.form, store=True),
        post("/databases/{database_id}/new", key_editor.create, store=True, sent=Sent.FORM),
        post("/databases/{database_id}/edit", key_editor.edit, store=True, sent=Sent.FORM),
        post("/databases/{database_id}/delete", key_editor.delete, store=True),
        post("/databases/{database_id}/undo", key_editor.undo, store=True),
    ]


async def _asset(request: Request) -> Response:
    found = rendering.ASSETS.get(request.path_params["name"])
    if found is None:
        return PlainTextResponse("this page does not exist", 404)
    content, kind = found
    lasting = request.query_params.get("v") == rendering.VERSION
    caching = "public, max-age=31536000, immutable" if lasting else "no-cache"
    return Response(content, media_type=kind, headers={"cache-control": caching})


def _events(shared: SharedResources) -> Endpoint:
    """The stream of a page; on a page of a database's content it includes writes, on that of logs their output."""

    async def answer(request: Request) -> Response:
        session = await shared.session(request, used=False)
        if session is None:
            return PlainTextResponse("the session has ended", 401)
        if shared.live.ended or shared.live.streams >= MOST:
            return PlainTextResponse("no more streams now", 503)

        async def may_go_on() -> bool:
            return await shared.session(request, used=False) is not None

        state = _state(shared, request)
        return StreamingResponse(
            shared.live.stream(may_go_on, state, request.query_params.get("seen")), media_type="text/event-stream"
        )

    return answer


def _state(shared: SharedResources, request: Request) -> State | None:
    """What a page shows that is not in the registry; None if it is all there."""
    match request.path_params:
        case {"database_id": database_id}:
            return _version(shared, database_id)
        case {"run_id": run_id}:
            return _log_size(shared, run_id)
        case {"timeline_id": timeline_id}:
            return _log_sizes(shared, logs.LogSizes(shared, timeline_id, logs.LogFilter.of(request)))
        case _:
            return None


def _log_sizes(shared: SharedResources, sizes: logs.LogSizes) -> State:
    async def ask() -> object:
        try:
            return await asyncio.get_running_loop().run_in_executor(shared.threads, sizes)
        except ProvisionerError:  # the page says which
            return None

    return ask


def _version(shared: SharedResources, database_id: DatabaseId) -> State:
    async def ask() -> object:
        try:
            database = await shared.databases.get(database_id)
            database.used = shared.databases.tick
            return await shared.databases.call(database, database.store.version)
        except (Refused, KvError):  # it was archived, or its storage fails: the page says which
            return None

    return ask


def _log_size(shared: SharedResources, run_id: RunId) -> State:
    """Of the log of a run, whose id is one or leads nowhere."""
    path = log_path(shared.home, run_id) if re.fullmatch("[0-9a-f-]{36}", run_id) else ""

    async def ask() -> object:
        return await asyncio.get_running_loop().run_in_executor(shared.threads, run.size, path)

    return ask
