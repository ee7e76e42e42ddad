"""Logging in and out: by a one-time link, or by an admin token."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from provisioner.connect.server.tokens import LONGEST
from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import TokenId
from provisioner.core.model import Scope
from provisioner.dashboard.web import carried, login_codes, places, rendering
from provisioner.dashboard.web.context import BUSY_SECONDS, SECURE, PageContext, SharedResources
from provisioner.dashboard.web.endpoint import Endpoint
from provisioner.dashboard.web.roots import under
from provisioner.dashboard.web.sessions import LoginSession, Notice
from provisioner.registry import tokens
from provisioner.registry.store import Registry

LEADS_AWAY = ("/open-preview",)
"""Pages that redirect to other sites."""

_WRONG = "Invalid code or token"
_TOO_NARROW = "That token opens databases, not the dashboard"


@dataclass(frozen=True, slots=True)
class LoginRefused:
    text: str


async def form(request: Request) -> Response:
    return rendering.login(following=request.query_params.get("next", ""))


def log_in(shared: SharedResources) -> Endpoint:
    async def answer(request: Request) -> Response:
        given = await shared.forms.of_stranger(request)
        following, resume, typed = (given.get(name, "") for name in ("next", "resume", carried.TYPED))
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                shared.threads, _opened, shared, given.get("secret", "").strip(), now_ms()
            )
        except ProvisionerError as error:
            return rendering.failed(None, 503, error.message, error.hint)
        if isinstance(found, LoginRefused):
            address = request.client.host if request.client else ""
            many = shared.attempts.failed(address, perf_counter())
            wrong = "Too many failed attempts. Wait a minute, then try again" if many else found.text
            return rendering.login(429 if many else 401, wrong, following=following, resume=resume, typed=typed)
        answered = _onward(found, resume, following if places.inside(following) else "/")
        encrypted = _encrypted(shared, request)
        answered.set_cookie(
            f"{SECURE}{shared.cookie}" if encrypted else shared.cookie,
            found.secret,
            path=under(found.root, ""),
            httponly=True,
            samesite="strict",
            secure=encrypted,
        )
        return answered

    return answer


def _onward(session: LoginSession, resume: str, following: str) -> Response:
    """To a form that is sent again, or to a page. What leads to another site cannot be reached by a redirect: browsers hold a
    form's redirects to the Content-Security-Policy of its page, too."""
    if places.inside(resume):
        return RedirectResponse(under(session.root, resume), 307)
    if following.partition("?")[0] in LEADS_AWAY:
        return rendering.onward(session, following)
    return RedirectResponse(under(session.root, following), 303)


def alive(shared: SharedResources) -> Endpoint:
    """Whether the session of a root still exists, for a tab that was opened without one or that another tab has replaced."""

    async def answer(request: Request) -> Response:
        return JSONResponse(await shared.session(request, used=False) is not None)

    return answer


def log_out(visit: PageContext) -> Response:
    """Only for the session itself, so it is allowed in a read-only session."""
    shared, session = visit.shared, visit.session
    shared.sessions.end(session)
    answered = RedirectResponse("/login", 303)
    for name in (shared.cookie, f"{SECURE}{shared.cookie}"):
        answered.delete_cookie(name, path=under(session.root, ""), secure=name.startswith(SECURE))
    return answered


def _opened(shared: SharedResources, secret: str, now: int) -> LoginSession | LoginRefused:
    with Registry.open(shared.home, busy_seconds=BUSY_SECONDS) as registry:
        with login_codes.redeemed(shared.home, secret, now) as good:
            if good:
                return _begun(shared, registry, "login link", None, read_only=False, now=now)
        token = tokens.known(registry, secret) if len(secret) <= LONGEST else None
        if token is None or not token.valid(now):
            return LoginRefused(_WRONG)
        if token.scope is not Scope.ADMIN:
            return LoginRefused(_TOO_NARROW)
        return _begun(shared, registry, f"token {token.id}", token.id, read_only=token.read_only, now=now)


def _begun(
    shared: SharedResources, registry: Registry, principal: str, token_id: TokenId | None, *, read_only: bool, now: int
) -> LoginSession:
    session = shared.sessions.begin(principal, token_id, read_only, now)
    try:
        registry.record(now, "dashboard.login", principal, detail=f"session {session.stored.id}")
    except ProvisionerError:
        shared.sessions.end(session)
        raise
    session.tell(Notice("Logged in. This session is read-only." if read_only else "Logged in."))
    return session


def _encrypted(shared: SharedResources, request: Request) -> bool:
    """Whether the browser uses TLS, with this server or with the proxy in front."""
    public = shared.options.public_url or ""
    return request.url.scheme == "https" or request.headers.get("host", "") == public.removeprefix("https://")
