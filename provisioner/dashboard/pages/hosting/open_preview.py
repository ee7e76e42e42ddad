"""From the dashboard to a preview: a session of the dashboard signs in to it."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from provisioner.dashboard.web import rendering
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.hosting.apps.sites import site_of
from provisioner.hosting.router.access import HANDED_MS, PreviewAccess
from provisioner.hosting.router.inquiry import safe_path
from provisioner.system.router_address import address


def open_preview(visit: PageContext) -> Response:
    """Redirect to the preview of the host in the query; with a link for one use, unless it is open to everyone."""
    router = address(visit.registry.home)
    host = visit.query("host").lower().partition(":")[0]
    site = site_of(visit.registry, host, router)
    if site is None:
        raise Missing("there is no preview at this address", "Its branch may be gone")
    following = safe_path(visit.query("next") or "/")
    if site.is_open(router):
        return RedirectResponse(router.url(host) + following, 303)
    if visit.session.read_only:
        hint = "An app changes its databases. Log in with an admin token that is not read-only"
        return rendering.failed(visit.session, 403, "a read-only session opens no previews", hint)
    _, path = PreviewAccess(visit.registry.home).share(
        *(host, site.hosted.app.id, visit.session.principal, visit.now),
        lasts_ms=HANDED_MS,
        once=True,
        token_id=visit.session.token_id,
        following=following,
    )
    return RedirectResponse(router.url(host) + path, 303)
