"""The root of a session: the first part of each of its addresses, `/~SECRET`. Routes and pages do not contain it.

It is removed from each request, and added to each redirect and link in the answer. See
`provisioner.dashboard.web.sessions`.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.requests import Request

from provisioner.dashboard.web.asgi_adapter import App, Message, Receive, Scope, Send

_KEY: Final = "provisioner.root"
_MARK: Final = "/~"
_COMMON: Final = ("/login", "/static/")
_LINKS: Final = re.compile(r' ((?:href|action|data-events|data-suggest)=")/(?!static/|login")')


class Roots:
    """Around the application."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        root, scope["path"] = _split(scope["path"])
        scope[_KEY] = root

        async def send_under_root(message: Message) -> None:
            if root and message["type"] == "http.response.start":
                message["headers"] = [(name, _moved(root, name, value)) for name, value in message["headers"]]
            await send(message)

        await self._app(scope, receive, send_under_root)


def root_of(request: Request) -> str:
    """The root that a request came under; empty for none."""
    return str(request.scope[_KEY])


def under(root: str, path: str) -> str:
    """The address of a page in a session."""
    return f"{_MARK}{root}{path}"


def rooted(root: str, page: str) -> str:
    """The text of a page whose links lead to where its session lives. In text a quotation mark is escaped, so these are links."""
    return _LINKS.sub(lambda found: f" {found[1]}{under(root, '/')}", page)


def _split(path: str) -> tuple[str, str]:
    if not path.startswith(_MARK):
        return "", path
    root, _, rest = path[len(_MARK) :].partition("/")
    return root, f"/{rest}"


def _moved(root: str, name: bytes, value: bytes) -> bytes:
    place = value.decode("latin-1")
    inside = name == b"location" and place.startswith("/") and not place.startswith((_MARK, *_COMMON))
    return under(root, place).encode("latin-1") if inside else value
