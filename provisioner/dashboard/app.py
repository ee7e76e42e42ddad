"""The dashboard as a part of the server: its shared state, and its work every second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from provisioner.connect.server.mounted_app import ServerContext
from provisioner.connect.server.rate_limit import RateLimiter
from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import Status
from provisioner.dashboard.charts.metrics_history import SECONDS, Samples
from provisioner.dashboard.charts.storage_sizes import Sizes
from provisioner.dashboard.routes import routes
from provisioner.dashboard.web import rendering
from provisioner.dashboard.web.asgi_adapter import Adapter
from provisioner.dashboard.web.background_tasks import BackgroundTasks
from provisioner.dashboard.web.context import BUSY_SECONDS, FAR_THREADS, THREADS, SharedResources
from provisioner.dashboard.web.form_body import Forms
from provisioner.dashboard.web.roots import Roots
from provisioner.dashboard.web.security import Guard
from provisioner.dashboard.web.sessions import LoginSessions
from provisioner.dashboard.web.sse import Live
from provisioner.registry.store import Registry
from provisioner.system.looking import only_looking

_SIZES_EVERY = 60  # seconds


class Dashboard:
    """See `provisioner.connect.server.mounted_app.MountedApp`."""

    def __init__(self, around: ServerContext) -> None:
        self._log = around.log
        self._shared = shared = SharedResources(
            home=around.home,
            options=around.options,
            databases=around.databases,
            sessions=LoginSessions(around.home),
            forms=Forms(),
            attempts=RateLimiter(),
            live=Live(),
            sizes=Sizes(),
            samples=Samples(around.metrics),
            works=BackgroundTasks(around.home, self._tell),
            threads=ThreadPoolExecutor(THREADS, "dashboard"),
            far=ThreadPoolExecutor(FAR_THREADS, "dashboard far"),
            loop=asyncio.get_running_loop(),
            cookie=f"provisioner_{sha256(around.home.path.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}",
        )
        handlers: dict[Any, Any] = {HTTPException: _refused(shared)}
        application = Starlette(routes=routes(shared), exception_handlers=handlers)
        self._adapter = Adapter(Guard(Roots(application), around.options))
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
        """From any thread: something has changed that is not in the registry."""
        with suppress(RuntimeError):  # the server has ended in the meantime
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
        self._shared.works.stop()
        for work in self._shared.works.under_way():
            self._log("info", "waiting for a change", change=work.title, who=work.who)

    def close(self) -> None:
        for work in self._shared.works.under_way():
            self._log(
                "warning", "a change was interrupted; the next reconcile finishes or undoes it", change=work.title
            )
        self._shared.threads.shutdown()
        self._shared.far.shutdown()

    def _sample(self, look: bool) -> None:
        try:
            with only_looking(), Registry.open(self._shared.home, busy_seconds=BUSY_SECONDS) as registry:
                if look:
                    self._size = self._shared.sizes.look(registry)
                connected = sum(count for *_, status, count in registry.counted() if status is Status.CONNECTED)
        except ProvisionerError as error:  # requests for pages report it, too
            self._log("warning", f"the dashboard cannot read the registry: {error}")
            return
        self._shared.samples.take(now_ms(), self._size, connected)


def _refused(shared: SharedResources) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
        text = {404: "this page does not exist", 405: "this page does not accept that method"}.get(error.status_code)
        session = await shared.session(request)
        return rendering.failed(session, error.status_code, text or error.detail, "")

    return answer
