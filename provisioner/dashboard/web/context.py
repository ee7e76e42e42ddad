"""A visit to a page: its session, what was sent, and an open registry, in a thread of a small pool.

The event loop serves KV Connect to apps, so it never waits for a disk or a template.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from provisioner.connect.server.databases.open_database import OpenDatabase
from provisioner.connect.server.databases.open_databases import OpenDatabases
from provisioner.connect.server.options import Options
from provisioner.connect.server.rate_limit import RateLimiter
from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.dashboard.charts.metrics_history import Samples
from provisioner.dashboard.charts.storage_sizes import Sizes
from provisioner.dashboard.web import places, rendering
from provisioner.dashboard.web.background_tasks import BackgroundTasks
from provisioner.dashboard.web.form_body import Forms
from provisioner.dashboard.web.roots import root_of
from provisioner.dashboard.web.sessions import LoginSession, LoginSessions, Notice, Offer, cookie
from provisioner.dashboard.web.sse import Live
from provisioner.kv.client.atomic import checked
from provisioner.kv.errors import KvError
from provisioner.kv.local_store import DirectStore
from provisioner.kv.model import NEVER, AtomicWrite, ChecksFailed, Committed
from provisioner.registry.store import Registry
from provisioner.system.home import Home

BUSY_SECONDS: Final = 2.0
THREADS: Final = 4
FAR_THREADS: Final = 16  # a request to another machine may hold one until it times out
SECURE: Final = "__Secure-"  # browsers accept a cookie with this prefix only over TLS
LIVE: Final = "x-live"


class Missing(ProvisionerError):  # noqa: N818
    """The subject of the path does not exist."""


@dataclass(frozen=True, slots=True)
class SharedResources:
    """What all pages share."""

    home: Home
    options: Options
    databases: OpenDatabases
    sessions: LoginSessions
    attempts: RateLimiter
    live: Live
    sizes: Sizes
    samples: Samples
    works: BackgroundTasks
    threads: ThreadPoolExecutor
    far: ThreadPoolExecutor
    loop: asyncio.AbstractEventLoop
    forms: Forms
    cookie: str

    def secret(self, request: Request) -> str:
        """The content of the session's cookie; empty without one."""
        header = ";".join(request.headers.getlist("cookie"))  # HTTP/2 may send one header for each
        return cookie(header, f"{SECURE}{self.cookie}") or cookie(header, self.cookie)

    async def session(self, request: Request, *, used: bool = True) -> LoginSession | None:
        """The session of the request. A page that fetches itself again does not count as use."""
        used = used and LIVE not in request.headers
        find = partial(self.sessions.find, root_of(request), self.secret(request), now_ms(), used=used)
        return await asyncio.get_running_loop().run_in_executor(self.threads, find)


@dataclass(frozen=True, slots=True)
class PageContext:
    """`opened` is the database in the path, if the page requires it; `seen` is the state that everything else is no older than.

    `resumed`: the form was sent after its session had ended. It is shown again, and nothing is done.
    """

    request: Request
    shared: SharedResources
    session: LoginSession
    registry: Registry
    form: dict[str, str]
    now: int
    opened: OpenDatabase | None = None
    seen: int = 0
    resumed: bool = False

    @property
    def store(self) -> DirectStore:
        assert self.opened is not None  # noqa: S101
        return self.opened.store

    def write(self, write: AtomicWrite) -> Committed | ChecksFailed:
        """A write like an app's: it may share a transaction with theirs, watchers see it, and expiry is on time."""
        opened = self.opened
        assert opened is not None  # noqa: S101
        (outcome,) = opened.store.write([checked(write)])
        if isinstance(outcome, KvError):
            raise outcome
        for mutation in write.mutations:
            if mutation.expire_at != NEVER:
                self.shared.loop.call_soon_threadsafe(self.shared.databases.expect, opened, mutation.expire_at)
        return outcome

    def parameter(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str:
        return str(self.request.query_params.get(name, ""))

    @property
    def here(self) -> str:
        """The path and the query of the request."""
        return places.here(self.request)

    @property
    def live(self) -> str:
        """The state that a page that fetches itself again was made from; empty if a browser requests a whole page."""
        return str(self.request.headers.get(LIVE, ""))

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """`watched` in the template: the page can be fetched again, which the answer to a form cannot."""
        works = self.shared.works.under_way()
        notes = self.session.take_notes(again=bool(self.live))
        watched = self.request.method == "GET" and status == 200
        return rendering.page(
            template,
            status=status,
            session=self.session,
            now=self.now,
            notes=notes,
            works=works,
            watched=watched,
            made_from=self.seen,
            resumed=self.resumed,
            **context,
        )

    def go(self, path: str) -> Response:
        return RedirectResponse(path, 303)

    def done(self, path: str, text: str, offer: Offer | None = None) -> Response:
        """After a change: redirect to a page that reports it once, and offers to undo it."""
        self.session.tell(Notice(text, offer, following=True))
        return self.go(path)


Page = Callable[[PageContext], Response]
