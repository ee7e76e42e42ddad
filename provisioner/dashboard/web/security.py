"""The checks for every request and the headers of every answer: see docs/dashboard.md, "What keeps it safe".

A name that another person's DNS resolves to this server is refused (rebinding), and so is a change that another site's page
for. https://fetch.spec.whatwg.org says when browsers send Origin and Sec-Fetch-Site.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from provisioner.connect.server.options import Options
from provisioner.dashboard.web.asgi_adapter import App, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# Not no-referrer: then browsers would say "Origin: null" with our own forms. This one tells other sites as little.
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
_MISDIRECTED: Final = 421


class Guard:
    """Around the application."""

    def __init__(self, app: App, options: Options) -> None:
        self._app = app
        self._names = {"localhost", options.host.lower()}
        if options.public_url is not None:
            self._names.add(urlsplit(options.public_url).hostname or "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(raw=scope["headers"])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                added = dict(_HEADERS)
                if b"cache-control" not in own:
                    added["cache-control"] = "no-store"
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in added.items()),
                ]
            await send(message)

        refused = self._refused(scope["method"], headers)
        await (refused or self._app)(scope, receive, send_with_headers)

    def _refused(self, method: str, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if not self._known(host):
            text = "this server is not known by that name. To allow it: provisioner serve --public-url https://NAME"
            return PlainTextResponse(text, _MISDIRECTED)
        if method not in ("GET", "HEAD") and not _from_here(headers, host):
            return PlainTextResponse("changes are only accepted from pages of this server", 403)
        return None

    def _known(self, host: str) -> bool:
        """Addresses are known; a name may be one that another person's DNS resolves to this server."""
        name = urlsplit(f"//{host}").hostname if host.isascii() and "/" not in host and "@" not in host else None
        if not name:
            return False
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _from_here(headers: Headers, host: str) -> bool:
    """Whether a page of this server sent it. Browsers state that in at least one of these headers, which no page can forge."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    if origin is not None:
        address = urlsplit(origin)
        return address.scheme in ("http", "https") and address.netloc.lower() == host.lower()
    return site is not None
