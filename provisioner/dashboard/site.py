"""The dashboard as a part of the server: its routes, and what it does every second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from provisioner.clock import now_ms
from provisioner.connect.attempts import Attempts
from provisioner.connect.refusal import Refused
from provisioner.connect.site import Surroundings
from provisioner.dashboard import (
    activity,
    app,
    database_changes,
    databases,
    editing,
    entrance,
    explorer,
    instance,
    one_database,
    rendering,
)
from provisioner.dashboard.asgi import Adapter
from provisioner.dashboard.changing import Form, Propose, change
from provisioner.dashboard.guard import Guard
from provisioner.dashboard.live import MOST, Live, State
from provisioner.dashboard.samples import SECONDS, Samples
from provisioner.dashboard.sessions import Sessions
from provisioner.dashboard.sizes import Sizes
from provisioner.dashboard.visiting import BUSY_SECONDS, THREADS, Endpoint, Facilities, endpoint, failed
from provisioner.dashboard.works import Works
from provisioner.errors import ProvisionerError
from provisioner.kv.errors import KvError
from provisioner.model import Status
from provisioner.registry.store import Registry

_SIZES_EVERY = 60  # seconds


class Dashboard:
    """See `provisioner.connect.site.Site`."""

    def __init__(self, around: Surroundings) -> None:
        self._log = around.log
        self._shared = shared = Facilities(
            home=around.home,
            options=around.options,
            databases=around.databases,
            sessions=Sessions(),
            attempts=Attempts(),
            live=Live(),
            sizes=Sizes(),
            samples=Samples(around.metrics),
            works=Works(around.home, self._tell),
            threads=ThreadPoolExecutor(THREADS, "dashboard"),
            loop=asyncio.get_running_loop(),
            # one for each home: browsers keep the cookies of all ports of a host together
            cookie=f"provisioner_{sha256(around.home.path.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}",
        )
        handlers: dict[Any, Any] = {HTTPException: _not_found(shared)}
        application = Starlette(routes=_routes(shared), exception_handlers=handlers)
        self._adapter = Adapter(Guard(application, around.options))
        self._answering = 0
        self._seconds = 0
        self._size = 0
        self._sampling: asyncio.Future[None] | None = None

    @property
    def idle(self) -> bool:
        return not self._answering and self._shared.works.idle

    async def __call__(self, scope: Any, protocol: Any) -> int:
        self._answering += 1
        try:
            return await self._adapter(scope, protocol)
        finally:
            self._answering -= 1

    def _tell(self) -> None:
        """From any thread: something is to be seen that is not in the registry."""
        self._shared.loop.call_soon_threadsafe(self._shared.live.changed)

    def each_second(self, changed: bool) -> None:
        if changed:
            self._shared.live.changed()
        if not self._seconds % SECONDS and (self._sampling is None or self._sampling.done()):
            loop = asyncio.get_running_loop()
            self._sampling = loop.run_in_executor(self._shared.threads, self._sample, not self._seconds % _SIZES_EVERY)
        self._seconds += 1

    def drain(self) -> None:
        self._shared.live.end()
        self._shared.sizes.end()

    def close(self) -> None:
        self._shared.threads.shutdown()

    def _sample(self, look: bool) -> None:
        try:
            with Registry.open(self._shared.home, busy_seconds=BUSY_SECONDS) as registry:
                if look:
                    self._size = self._shared.sizes.look(registry)
                connected = sum(count for *_, status, count in registry.counted() if status is Status.CONNECTED)
        except ProvisionerError as error:  # who asks for a page hears of it, too
            self._log("warning", f"the dashboard cannot look at the registry: {error}")
            return
        self._shared.samples.take(now_ms(), self._size, connected)


def _routes(shared: Facilities) -> list[Route]:
    def page(path: str, visited: Any, **how: Any) -> Route:
        return Route(path, endpoint(shared, visited, **how), methods=["GET"])

    def changes(path: str, propose: Propose, form: Form | None = None) -> Route:
        return post(path, change(propose, form))

    def post(path: str, visited: Any, **how: Any) -> Route:
        return Route(path, endpoint(shared, visited, **how), methods=["POST"])

    return [
        Route("/static/{name}", _asset, methods=["GET"]),
        Route("/login", entrance.form, methods=["GET"]),
        Route("/login", entrance.log_in(shared), methods=["POST"]),
        Route("/logout", endpoint(shared, entrance.log_out, reads=True), methods=["POST"]),
        Route("/events", _events(shared), methods=["GET"]),
        Route("/databases/{database_id}/events", _events(shared), methods=["GET"]),
        page("/", databases.page),
        page("/instances/{slug}", instance.page),
        page("/apps/{slug}", app.page),
        page("/activity", activity.page),
        page("/databases/{database_id}", one_database.page),
        post("/databases/{database_id}/reveal", one_database.reveal),
        changes("/databases/{database_id}/archive", database_changes.archive),
        changes("/databases/{database_id}/recover", database_changes.recover),
        changes("/databases/{database_id}/fix", database_changes.fix),
        page("/databases/{database_id}/keys", explorer.keys, store=True),
        page("/databases/{database_id}/entry", explorer.entry, store=True),
        page("/databases/{database_id}/changes", explorer.changes, store=True),
        page("/databases/{database_id}/new", editing.blank, store=True),
        page("/databases/{database_id}/edit", editing.form, store=True),
        post("/databases/{database_id}/new", editing.create, store=True),
        post("/databases/{database_id}/edit", editing.edit, store=True),
        post("/databases/{database_id}/delete", editing.delete, store=True),
        post("/databases/{database_id}/undo", editing.undo, store=True),
    ]


async def _asset(request: Request) -> Response:
    found = rendering.ASSETS.get(request.path_params["name"])
    if found is None:
        return PlainTextResponse("there is nothing here", 404)
    content, kind = found
    lasting = request.query_params.get("v") == rendering.VERSION
    caching = "public, max-age=31536000, immutable" if lasting else "no-cache"
    return Response(content, media_type=kind, headers={"cache-control": caching})


def _not_found(shared: Facilities) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        text = "there is nothing here" if status == 404 else "this page is not asked for like that"
        return failed(shared.session(request), status, text, "Begin at the databases")

    return answer


def _events(shared: Facilities) -> Endpoint:
    """The stream of a page; of a page on a database's content it also tells of writes."""

    async def answer(request: Request) -> Response:
        session = shared.session(request)
        if session is None:
            return PlainTextResponse("you are not logged in", 401)
        if shared.live.ended or shared.live.streams >= MOST:
            return PlainTextResponse("no more streams now", 503)
        secret = request.cookies.get(shared.cookie, "")

        def may_go_on() -> bool:
            return shared.sessions.find(secret, now_ms(), used=False) is session

        database_id = request.path_params.get("database_id")
        state = _version(shared, database_id) if database_id else None
        return StreamingResponse(shared.live.stream(may_go_on, state), media_type="text/event-stream")

    return answer


def _version(shared: Facilities, database_id: str) -> State:
    async def ask() -> object:
        try:
            database = await shared.databases.get(database_id)
            database.used = shared.databases.tick
            return await shared.databases.call(database, database.store.version)
        except (Refused, KvError):  # it was archived, or its storage fails: the page says which
            return None

    return ask
