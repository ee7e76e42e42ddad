"""A visit to a page: who asks, whether they may, and an open registry, in a thread of a small pool.

The event loop serves KV Connect to apps: nothing here keeps it waiting for a disk or a template.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from provisioner.connect.protocol.http_errors import CONFLICT, UNAVAILABLE, Refused
from provisioner.connect.server.open_databases import Database, Databases
from provisioner.connect.server.options import Options
from provisioner.connect.server.rate_limit import Attempts
from provisioner.core.clock import now_ms
from provisioner.core.errors import Busy, ProvisionerError
from provisioner.dashboard.charts.metrics_history import Samples
from provisioner.dashboard.charts.storage_sizes import Sizes
from provisioner.dashboard.web import rendering
from provisioner.dashboard.web.background_tasks import Works
from provisioner.dashboard.web.sessions import Note, Offer, Session, Sessions, cookie
from provisioner.dashboard.web.sse import Live
from provisioner.engines.catalog import ENGINES
from provisioner.kv.client.atomic import checked
from provisioner.kv.errors import CursorInvalid, KeyInvalid, KvError, LimitExceeded, OptionInvalid, ValueInvalid
from provisioner.kv.local_store import DirectStore
from provisioner.kv.model import NEVER, AtomicWrite, ChecksFailed, Committed
from provisioner.registry import tokens
from provisioner.registry.locations import place_of
from provisioner.registry.store import Registry
from provisioner.system.home import Home

BUSY_SECONDS: Final = 2.0
THREADS: Final = 4
FAR_THREADS: Final = 16  # what is asked over a network may hold one for as long as it is patient
FIELDS: Final = 100  # of a form

_log = logging.getLogger("provisioner.dashboard")


class Missing(ProvisionerError):  # noqa: N818
    """There is no such thing."""


@dataclass(frozen=True, slots=True)
class Facilities:
    """What all pages share."""

    home: Home
    options: Options
    databases: Databases
    sessions: Sessions
    attempts: Attempts
    live: Live
    sizes: Sizes
    samples: Samples
    works: Works
    threads: ThreadPoolExecutor
    far: ThreadPoolExecutor
    loop: asyncio.AbstractEventLoop
    cookie: str

    def session(self, request: Request) -> Session | None:
        return self.sessions.find(self.secret(request), now_ms())

    def secret(self, request: Request) -> str:
        """What the browser's cookie holds; empty where there is none."""
        return cookie(";".join(request.headers.getlist("cookie")), self.cookie)  # HTTP/2 may send one header for each


@dataclass(frozen=True, slots=True)
class Visit:
    """`opened` is the database in the path, where the page asked for it; `seen` is the state that all else is no older than."""

    request: Request
    shared: Facilities
    session: Session
    registry: Registry
    form: dict[str, str]
    now: int
    opened: Database | None = None
    seen: int = 0

    @property
    def store(self) -> DirectStore:
        assert self.opened is not None  # noqa: S101
        return self.opened.store

    def write(self, write: AtomicWrite) -> Committed | ChecksFailed:
        """As an app's write: it may share a transaction with theirs, who watches hears of it, and expiry is in time."""
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
        """Of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str:
        return str(self.request.query_params.get(name, ""))

    @property
    def live(self) -> str:
        """What a page that fetches itself again says it was made from; empty where a browser asks for a whole page."""
        return str(self.request.headers.get("x-live", ""))

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """`watched` in the template: it can be fetched again, which the answer to a form cannot."""
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
            **context,
        )

    def go(self, path: str) -> Response:
        return RedirectResponse(path, 303)

    def done(self, path: str, text: str, offer: Offer | None = None) -> Response:
        """After a change: on to a page that tells of it once, and offers to take it back."""
        self.session.tell(Note(text, offer, following=True))
        return self.go(path)


Page = Callable[[Visit], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


def endpoint(shared: Facilities, page: Page, *, store: bool = False, reads: bool = False) -> Endpoint:
    """A page for who is logged in; a change, by POST, only for who may change, unless it `reads` only. With `store` that
    of the path's database."""

    async def answer(request: Request) -> Response:
        session = shared.session(request)
        if session is None:
            return _log_in(request)
        form = await fields(request)

        async def visited(opened: Database | None, page: Page = page) -> Response:
            threads = shared.threads if opened is None or opened.store.prompt else shared.far
            arguments = (shared, page, request, session, form, opened)
            return await asyncio.get_running_loop().run_in_executor(threads, _visited, *arguments)

        if request.method == "POST" and (refused := _may_not(session, form, reads)):
            return refused
        try:
            if not store:
                return await visited(None)
            database = await shared.databases.get(request.path_params["database_id"])
            database.used = shared.databases.tick
            database.users += 1
            try:
                return await visited(database)
            finally:
                shared.databases.release(database)
        except Refused as refusal:
            return await visited(None, _unopened(refusal))

    return answer


def _unopened(refusal: Refused) -> Page:
    """The page that says why a database could not be opened, and what to do."""

    def page(visit: Visit) -> Response:
        place = place_of(visit.registry, visit.parameter("database_id"))
        if place is not None and not ENGINES[place.engine].has_keys:
            text = f"{place.name} is a {place.engine} database, which has no keys to be shown here"
            return failed(visit.session, refusal.status, text, "Its own page says how to look into it")
        hint = ""
        if place is not None and refusal.status in (CONFLICT, UNAVAILABLE):
            instance = visit.registry.instance_of(place.instance_id).slug
            hint = f"Look at its own page, and run: provisioner instance test {instance}"
        return failed(visit.session, refusal.status, refusal.text, hint)

    return page


def _visited(
    shared: Facilities,
    page: Page,
    request: Request,
    session: Session,
    form: dict[str, str],
    opened: Database | None,
) -> Response:
    now, seen = now_ms(), shared.live.registry
    try:
        with Registry.open(shared.home, busy_seconds=BUSY_SECONDS) as registry:
            if not still_valid(registry, session, now):
                shared.sessions.end(shared.secret(request))
                return _log_in(request)
            return page(Visit(request, shared, session, registry, form, now, opened, seen))
    except Missing as error:
        return failed(session, 404, error.message, error.hint)
    except Busy as error:
        return failed(session, 503, error.message, error.hint)
    except ProvisionerError as error:
        return failed(session, 409, error.message, error.hint)
    except (KeyInvalid, ValueInvalid, OptionInvalid, CursorInvalid, LimitExceeded) as error:
        return failed(session, 400, str(error), "Write it as provisioner kv does")
    except KvError as error:
        return failed(session, 409, str(error), "")
    except Exception:
        _log.exception("a page failed: %s", request.scope["route"].path if "route" in request.scope else "")
        return failed(session, 500, "the dashboard failed on this page", "The server's log says why")


def still_valid(registry: Registry, session: Session, now: int) -> bool:
    """A session ends with the token that opened it."""
    if session.token_id is None:
        return True
    found = tokens.find(registry, session.token_id)
    return found is not None and found[0].valid(now)


def failed(session: Session | None, status: int, message: str, hint: str) -> Response:
    return rendering.page("failed.html", status=status, session=session, now=now_ms(), message=message, hint=hint)


async def fields(request: Request) -> dict[str, str]:
    """Those of a form. Raises nothing: what is no form has none."""
    if request.method != "POST":
        return {}
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError:
        return {}
    return dict(pairs)


def _may_not(session: Session, form: dict[str, str], reads: bool) -> Response | None:
    given = form.get("csrf", "")
    if not given.isascii() or not compare_digest(given, session.csrf):
        return failed(session, 403, "this form is not of your session", "Open the page again, and send it from there")
    if session.read_only and not reads:
        return failed(
            session, 403, "you are logged in to read only", "Log in with a token of: provisioner token create --admin"
        )
    return None


def _log_in(request: Request) -> Response:
    if request.method == "GET" and request.headers.get("accept") != "text/event-stream":
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse("/login" + (f"?next={quote(path)}" if path != "/" else ""), 303)
    return rendering.page(
        "failed.html", status=401, session=None, now=now_ms(), message="you are not logged in", hint="Log in first"
    )
