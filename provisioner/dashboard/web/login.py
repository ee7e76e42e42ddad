"""Logging in and out: by a one-time link, or by an admin token."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from time import perf_counter

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from provisioner.connect.server.tokens import LONGEST
from provisioner.core.clock import now_ms
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import Scope
from provisioner.dashboard.web import login_codes, rendering
from provisioner.dashboard.web.context import BUSY_SECONDS, Endpoint, Facilities, Visit, failed, fields
from provisioner.dashboard.web.sessions import Note, Session
from provisioner.registry import tokens
from provisioner.registry.store import Registry

_WRONG = "that opens nothing here"
_TOO_NARROW = "that token opens databases, not the dashboard"


@dataclass(frozen=True, slots=True)
class Refusal:
    text: str


async def form(request: Request) -> Response:
    return _form(request.query_params.get("next", ""))


def log_in(shared: Facilities) -> Endpoint:
    async def answer(request: Request) -> Response:
        given = await fields(request)
        secret = given.get("secret", "").strip()
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(shared.threads, _opened, shared, secret, now_ms())
        except ProvisionerError as error:
            return failed(None, 503, error.message, error.hint)
        if isinstance(found, Refusal):
            address = request.client.host if request.client else ""
            if shared.attempts.failed(address, perf_counter()):
                return _form(given.get("next", ""), 429, "too many attempts that opened nothing; wait a minute")
            return _form(given.get("next", ""), 401, found.text)
        shared.sessions.end(shared.secret(request))
        answered = RedirectResponse(_inside(given.get("next", "")), 303)
        answered.set_cookie(
            shared.cookie,
            shared.sessions.begin(found),
            path="/",
            httponly=True,
            samesite="strict",
            secure=_encrypted(shared, request),
        )
        return answered

    return answer


def log_out(visit: Visit) -> Response:
    """Only for the session itself, so also for one that may only read."""
    shared = visit.shared
    shared.sessions.end(shared.secret(visit.request))
    answered = RedirectResponse("/login", 303)
    answered.delete_cookie(shared.cookie, path="/")
    return answered


def _opened(shared: Facilities, secret: str, now: int) -> Session | Refusal:
    with Registry.open(shared.home, busy_seconds=BUSY_SECONDS) as registry:
        with login_codes.redeemed(shared.home, secret, now) as good:
            if good:
                return _begun(registry, Session("login link", None, False, now))
        token = tokens.known(registry, secret) if len(secret) <= LONGEST else None
        if token is None or not token.valid(now):
            return Refusal(_WRONG)
        if token.scope is not Scope.ADMIN:
            return Refusal(_TOO_NARROW)
        return _begun(registry, Session(f"token {token.id}", token.id, token.read_only, now))


def _begun(registry: Registry, session: Session) -> Session:
    registry.record(session.seen_at, "dashboard.login", session.principal)
    session.tell(Note("Logged in to read only." if session.read_only else "Logged in."))
    return session


def _form(following: str, status: int = 200, wrong: str = "") -> Response:
    return rendering.page("login.html", status=status, session=None, now=now_ms(), following=following, wrong=wrong)


def _inside(path: str) -> str:
    """Where to go on, if that is a page of ours: nobody is sent to another site."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isascii() and path.isprintable()
    return path if plain else "/"


def _encrypted(shared: Facilities, request: Request) -> bool:
    """Did the browser come over TLS, to us or to the proxy in front?"""
    public = shared.options.public_url or ""
    return request.url.scheme == "https" or request.headers.get("host", "") == public.removeprefix("https://")
