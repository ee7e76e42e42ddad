"""The visitor's position in the dashboard: the page that a form was sent from, to which they return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.routing import BaseRoute, Match

from provisioner.dashboard.web.roots import root_of, under

PAGE: Final = "page"
"""The field of a form with the page that it was sent from, if that is no longer the previous page."""


def came_from(request: Request, form: Mapping[str, str]) -> str:
    """The page that a form was sent from, or else the page above its address."""
    for place in (form.get(PAGE, ""), _referrer(request)):
        if inside(place) and _is_page(request, urlsplit(place).path):
            return place
    return above(request)


def here(request: Request) -> str:
    """The path and the query of the request."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def above(request: Request) -> str:
    """The nearest page whose path is the start of the request's path."""
    parts = request.url.path.split("/")
    for length in range(len(parts) - 1, 1, -1):
        path = "/".join(parts[:length])
        if _is_page(request, path):
            return path
    return "/"


def inside(path: str) -> bool:
    """Whether it is a page of this dashboard, so that no redirect leads to another site."""
    return path.startswith("/") and not path.startswith(("//", "/\\")) and path.isascii() and path.isprintable()


def _referrer(request: Request) -> str:
    """The path and the query of the previous page, in this session; empty if that is not a page of the dashboard."""
    found = urlsplit(request.headers.get("referer", ""))
    start = under(root_of(request), "/")
    if found.netloc.lower() != request.headers.get("host", "").lower() or not found.path.startswith(start):
        return ""
    return found.path[len(start) - 1 :] + (f"?{found.query}" if found.query else "")


def _is_page(request: Request, path: str) -> bool:
    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": path, "root_path": "", "headers": []}
    routes: Iterable[BaseRoute] = request.app.routes
    return any(route.matches(scope)[0] is Match.FULL for route in routes)
