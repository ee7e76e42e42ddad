"""The router's own paths on every host: signing in, by a link or a token, and signing out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl, quote

from provisioner.connect.server.rate_limit import RateLimiter
from provisioner.core.clock import now_ms
from provisioner.hosting.router import answers
from provisioner.hosting.router.access import SIGN_IN, SIGN_OUT, PreviewAccess
from provisioner.hosting.router.answers import GatewayAnswer
from provisioner.hosting.router.cookies import cookie_name
from provisioner.hosting.router.inquiry import Inquiry, safe_path
from provisioner.hosting.router.sessions import Session
from provisioner.hosting.router.waking import Site

_BODY_SECONDS = 30
_FIELDS = 10
_LONGEST_FORM = 16_384
_DASHBOARD_PATH = "/open-preview"


class SignIn:
    """For the thread of the event loop; files and the registry are read in threads of the executor."""

    def __init__(self, access: PreviewAccess, threads: Executor, dashboard: Callable[[], str]) -> None:
        self._access, self._threads, self._dashboard = access, threads, dashboard
        self._attempts = RateLimiter()

    def page(self, asked: Inquiry, site: Site, *, following: str, wrong: str = "", status: int = 401) -> GatewayAnswer:
        """The answer to a request without a session."""
        if not asked.navigation and not wrong:
            text = "Sign in in a browser, or send the header X-Provisioner-Bypass"
            return answers.message(answers.UNAUTHORIZED, f"{site.name} is not public", text, page=False)
        base = self._dashboard()
        place = f"{base}{_DASHBOARD_PATH}?host={asked.authority}&next={quote(following, safe='')}" if base else ""
        return answers.sign_in(site.name, SIGN_IN, following, place, wrong=wrong, status=status)

    async def answer(self, path: str, query: str, asked: Inquiry, site: Site, protocol: Any) -> GatewayAnswer:
        match path, asked.method:
            case _ if path == SIGN_IN and asked.method in ("GET", "HEAD"):
                given = _fields(query)
                if "link" in given:
                    return await self._by_link(given["link"], safe_path(given.get("next", "/")), asked, site)
                return self.page(asked, site, following=safe_path(given.get("next", "/")), status=answers.OK)
            case _ if path == SIGN_IN and asked.method == "POST":
                given = _fields(await _body(protocol))
                return await self._by_token(
                    given.get("token", "").strip(), safe_path(given.get("next", "/")), asked, site
                )
            case _ if path == SIGN_OUT and asked.method == "POST":
                return await self._sign_out(asked)
        if path in (SIGN_IN, SIGN_OUT):
            return answers.message(answers.NOT_ALLOWED, "This takes a POST", "", page=False)
        return answers.message(answers.NOT_FOUND, "Not found", "", page=asked.navigation)

    async def _by_link(self, text: str, following: str, asked: Inquiry, site: Site) -> GatewayAnswer:
        begun = await self._in_thread(self._access.use_link, asked.host, site, text, now_ms())
        if begun is not None:
            return self._signed_in(begun, following, asked)
        over = self._attempts.failed(asked.client, perf_counter())
        status = answers.TOO_MANY if over else answers.UNAUTHORIZED
        return self.page(asked, site, following=following, wrong="This link is invalid or has expired", status=status)

    async def _by_token(self, text: str, following: str, asked: Inquiry, site: Site) -> GatewayAnswer:
        begun = await self._in_thread(self._access.use_token, asked.host, site, text, now_ms())
        if begun is not None:
            return self._signed_in(begun, following, asked)
        if self._attempts.failed(asked.client, perf_counter()):
            wrong = "Too many failed attempts. Wait a minute, then try again"
            return self.page(asked, site, following=following, wrong=wrong, status=answers.TOO_MANY)
        return self.page(asked, site, following=following, wrong="Invalid token, or it does not open this preview")

    def _signed_in(self, begun: tuple[Session, str], following: str, asked: Inquiry) -> GatewayAnswer:
        session, value = begun
        seconds = max(0, (session.ends_at - session.began_at) // 1000)
        return answers.redirect(following, [_set_cookie(value, seconds, encrypted=asked.encrypted)])

    async def _sign_out(self, asked: Inquiry) -> GatewayAnswer:
        find = partial(self._access.sessions.find, encrypted=asked.encrypted)
        value = await self._in_thread(find, asked.host, asked.cookies, now_ms())
        if value is not None:
            await self._in_thread(self._access.sessions.end, asked.host, value)
        return answers.redirect("/", [_set_cookie("", 0, encrypted=asked.encrypted)])

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


def _set_cookie(value: str, seconds: int, *, encrypted: bool) -> str:
    """For this host alone, not for programs on the page, and not for requests that other sites' pages make."""
    ending = "; Secure" if encrypted else ""
    return f"{cookie_name(encrypted=encrypted)}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{ending}"


async def _body(protocol: Any) -> str:
    """The router passes on no more than it should have."""
    async with asyncio.timeout(_BODY_SECONDS):
        body: bytes = await protocol()
    return body[:_LONGEST_FORM].decode("latin-1")


def _fields(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_FIELDS))
    except ValueError:
        return {}
