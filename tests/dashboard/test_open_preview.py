"""A session of the dashboard signs in to previews."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from dashboard_world import Visitor, visited
from support import git, ok

from provisioner.core.clock import now_ms
from provisioner.core.model import Scope
from provisioner.hosting.router.access import PreviewAccess
from provisioner.hosting.router.waking import Site
from provisioner.registry import tokens
from provisioner.registry.store import Registry
from provisioner.system.home import Home
from provisioner.system.router_address import RouterAddress, record

HOST = "shop.previews.example"


@pytest.fixture
def shop(tmp_path: Path, home: Path) -> Home:
    """An app, whose URLs are for those who sign in."""
    repository = tmp_path / "shop"
    git(tmp_path, "init", "-q", str(repository))
    git(repository, "commit", "-q", "--allow-empty", "-m", "a")
    ok(repository, "init", "--no-hooks")
    ok(repository, "app", "run", "--command", "true")
    record(Home(str(home)), RouterAddress("https", "previews.example", 443, everyone=False))
    return Home(str(home))


def test_a_session_of_the_dashboard_signs_in_to_a_preview_once(shop: Home) -> None:
    with visited(Path(shop.path)) as (_, visitor):
        answer = visitor.get(f"/open-preview?host={HOST}:443&next=/a?b=1")
        assert answer.status == 303
        place = urlsplit(answer.location)
        assert f"{place.scheme}://{place.netloc}{place.path}" == f"https://{HOST}/.provisioner/sign-in"
        given = parse_qs(place.query)
        assert given["next"] == ["/a?b=1"]
        access = PreviewAccess(shop)
        with Registry.open(shop) as registry:
            site = Site(registry.apps()[0].id, "shop, production", public=False)
        for host, opens in (("other.shop.previews.example", False), (HOST, True), (HOST, False)):
            assert bool(access.use_link(host, site, given["link"][0], now_ms())) is opens


def test_a_preview_that_there_is_not_is_said_and_nothing_leads_elsewhere(shop: Home) -> None:
    with visited(Path(shop.path)) as (_, visitor):
        for host in ("", "nobody.shop.previews.example", "evil.example", "shop.previews.example.evil.example"):
            assert visitor.get(f"/open-preview?host={host}").status == 404
        answer = visitor.get(f"/open-preview?host={HOST}&next=//evil.example")
        assert "evil" not in answer.location


def test_a_read_only_session_and_a_stranger_open_no_preview(shop: Home) -> None:
    with visited(Path(shop.path)) as (server, _):
        stranger = Visitor(server.base)
        assert stranger.get(f"/open-preview?host={HOST}").location.startswith("/login?next=/open-preview")
        with Registry.open(shop) as registry:
            text = tokens.create(registry, Scope.ADMIN, now_ms(), read_only=True)[1]
        reader = Visitor(server.base)
        assert reader.log_in(text).status == 303
        assert reader.get(f"/open-preview?host={HOST}").status == 403
        assert PreviewAccess(shop).links(now_ms()) == []


def test_a_preview_for_everyone_needs_no_link(shop: Home) -> None:
    record(shop, RouterAddress(domain="previews.example"))
    with visited(Path(shop.path)) as (_, visitor):
        assert visitor.get(f"/open-preview?host={HOST}&next=/a").location == f"http://{HOST}:4580/a"
