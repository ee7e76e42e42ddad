"""How a page or a change is requested: by which session, whether it may, and the answer if it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from hmac import compare_digest
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from provisioner.connect.protocol.http_errors import CONFLICT, UNAVAILABLE, Refused
from provisioner.connect.server.databases.open_database import OpenDatabase
from provisioner.core.clock import now_ms
from provisioner.core.errors import LockTimeout, ProvisionerError
from provisioner.core.ids import DatabaseId
from provisioner.dashboard.web import carried, places, rendering
from provisioner.dashboard.web.context import BUSY_SECONDS, Missing, Page, PageContext, SharedResources
from provisioner.dashboard.web.roots import root_of
from provisioner.dashboard.web.sessions import LoginSession, Notice
from provisioner.engines.catalog import ENGINES
from provisioner.kv.errors import CursorInvalid, KeyInvalid, KvError, LimitExceeded, OptionInvalid, ValueInvalid
from provisioner.registry import tokens
from provisioner.registry.locations import place_of
from provisioner.registry.store import Registry
from provisioner.system.looking import only_looking

Endpoint = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger("provisioner.dashboard")


class Sent(Enum):
    """What a change is sent by: it is shown once more before the change is sent again."""

    BUTTON = "nothing"
    QUESTION = "its effect, to be confirmed"
    FORM = "the form with the typed values"


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """A request of a session."""

    shared: SharedResources
    request: Request
    session: LoginSession
    form: Mapping[str, str]
    sent: Sent

    @property
    def changes(self) -> bool:
        return self.request.method == "POST"


def endpoint(
    shared: SharedResources, page: Page, *, store: bool = False, reads: bool = False, sent: Sent = Sent.BUTTON
) -> Endpoint:
    """A page for a session; a change, by POST, only for a session that may change, unless it only `reads`. With `store`, it
    gets the store of the path's database. A resumed visit shows what the change is `sent` by, and nothing is done."""

    async def answer(request: Request) -> Response:
        session = await shared.session(request)
        if session is None:
            return await logged_out(shared, request)
        form = await shared.forms.of_session(request)
        typed = carried.unpacked(form)
        asked = SessionRequest(shared, request, session, form if typed is None else typed, sent)
        if asked.changes and (refused := _may_not(asked, reads) if typed is None else _not_resumed(asked)):
            return refused

        async def visited(opened: OpenDatabase | None, page: Page = page) -> Response:
            threads = shared.threads if opened is None or opened.store.prompt else shared.far
            arguments = (asked, page, opened, typed is not None)
            return await asyncio.get_running_loop().run_in_executor(threads, _visited, *arguments)

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
            return await visited(None, _unopened(asked, refusal))

    return answer


async def logged_out(shared: SharedResources, request: Request) -> Response:
    """Redirect to the login: a page is shown after it, and a form comes back with the typed values."""
    if request.method == "GET":
        if request.headers.get("accept") == "text/event-stream":
            return PlainTextResponse("the session has ended", 401)
        path = places.here(request)
        return RedirectResponse("/login" + (f"?next={quote(path)}" if path != "/" else ""), 303)
    if not root_of(request):
        return rendering.failed(None, 401, "you are not logged in", "Log in first")
    form = await shared.forms.of_stranger(request)
    return rendering.login(401, resume=places.here(request), typed=carried.packed(form))


def _visited(asked: SessionRequest, page: Page, opened: OpenDatabase | None, resumed: bool) -> Response:
    if asked.changes:
        return _answered(asked, page, opened, resumed)
    with only_looking():
        return _answered(asked, page, opened, resumed)


def _answered(asked: SessionRequest, page: Page, opened: OpenDatabase | None, resumed: bool) -> Response:
    shared, session, now, seen = asked.shared, asked.session, now_ms(), asked.shared.live.registry
    try:
        with Registry.open(shared.home, busy_seconds=BUSY_SECONDS) as registry:
            if not _still_valid(registry, session, now):
                shared.sessions.end(session)
                return RedirectResponse("/login", 303)
            form = dict(asked.form)
            return page(PageContext(asked.request, shared, session, registry, form, now, opened, seen, resumed))
    except Missing as error:
        return rendering.failed(session, 404, error.message, error.hint)
    except LockTimeout as error:
        return _failed(asked, 503, error.message, error.hint)
    except ProvisionerError as error:
        return _failed(asked, 409, error.message, error.hint)
    except (KeyInvalid, ValueInvalid, OptionInvalid, CursorInvalid, LimitExceeded) as error:
        return _failed(asked, 400, str(error), "Use the notation of 'provisioner kv'")
    except KvError as error:
        return _failed(asked, 409, str(error), "")
    except Exception:
        _log.exception("a page failed: %s", asked.request.url.path)
        return _failed(asked, 500, "the dashboard failed on this page", "See the server's log")


def _failed(asked: SessionRequest, status: int, message: str, hint: str) -> Response:
    """A change that fails leaves the visitor on the same page, with everything that they typed."""
    if not asked.changes:
        return rendering.failed(asked.session, status, message, hint, places.above(asked.request))
    back = places.came_from(asked.request, asked.form)
    if asked.sent is Sent.FORM:
        return rendering.failed(asked.session, status, message, hint, back, _typed(asked))
    asked.session.tell(Notice(f"{message}. {hint}" if hint else message, problem=True, following=True))
    return RedirectResponse(back, 303)


def _typed(asked: SessionRequest) -> rendering.Again | None:
    """What was typed, to be shown in its form again."""
    return rendering.Again(places.here(asked.request), carried.packed(asked.form)) if asked.sent is Sent.FORM else None


def _unopened(asked: SessionRequest, refusal: Refused) -> Page:
    """Report why a database could not be opened, and what to do."""

    def page(visit: PageContext) -> Response:
        place = place_of(visit.registry, DatabaseId(visit.parameter("database_id")))
        if place is None:
            return rendering.failed(visit.session, refusal.status, refusal.text, "")
        if not ENGINES[place.engine].has_keys:
            text = f"{place.name} is a {place.engine} database, which has no keys to show"
            return _failed(asked, refusal.status, text, "Its page has the command to open it")
        hint = ""
        if refusal.status in (CONFLICT, UNAVAILABLE):
            instance = visit.registry.instance_of(place.instance_id).slug
            hint = f"See its page, and run: provisioner instance test {instance}"
        return _failed(asked, refusal.status, refusal.text, hint)

    return page


def _still_valid(registry: Registry, session: LoginSession, now: int) -> bool:
    """End the session if the token that opened it has ended."""
    if session.token_id is None:
        return True
    found = tokens.find(registry, session.token_id)
    return found is not None and found[0].valid(now)


def _may_not(asked: SessionRequest, reads: bool) -> Response | None:
    given = asked.form.get("csrf", "")
    if not given.isascii() or not compare_digest(given, asked.session.csrf):
        back = places.came_from(asked.request, asked.form)
        return rendering.failed(
            asked.session, 403, "this form is from another session, so nothing was changed", "", back, _typed(asked)
        )
    if asked.session.read_only and not reads:
        return rendering.failed(
            asked.session, 403, "this session is read-only", "Log in with a token of: provisioner token create --admin"
        )
    return None


def _not_resumed(asked: SessionRequest) -> Response | None:
    """If there is nothing to show once more, visitors return to the page that they came from."""
    if asked.sent is not Sent.BUTTON:
        return None
    asked.session.tell(Notice("The session had ended, so nothing was changed.", problem=True, following=True))
    return RedirectResponse(places.came_from(asked.request, asked.form), 303)
