"""Routes are files: set, replaced, and taken away without a moment in which a request finds none."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.hosting.routes import Routes
from provisioner.system.home import Home


def test_a_route_is_replaced_and_taken_away(tmp_path: Path) -> None:
    routes = Routes(Home(str(tmp_path)))
    assert routes.all() == {}
    routes.set("login.shop.localhost", 4001, public=True)
    routes.set("shop.localhost", 4002, public=False)
    assert routes.all() == {"login.shop.localhost": 4001, "shop.localhost": 4002}
    routes.set("login.shop.localhost", 4003, public=True)
    assert [path.name for path in (tmp_path / "router/open/login.shop.localhost").iterdir()] == ["127.0.0.1:4003"]
    routes.set("login.shop.localhost", 4003, public=False)
    assert not (tmp_path / "router/open/login.shop.localhost").exists()
    assert routes.port("login.shop.localhost") == 4003
    routes.clear("login.shop.localhost")
    routes.clear("login.shop.localhost")
    assert routes.all() == {"shop.localhost": 4002}


@pytest.mark.parametrize("host", ["", "..", "a/b", "../../x", "A", "a*"])
def test_only_host_names_have_routes(tmp_path: Path, host: str) -> None:
    routes = Routes(Home(str(tmp_path)))
    with pytest.raises(ValueError, match="host name"):
        routes.set(host, 1, public=True)
    assert routes.port(host) is None
    assert routes.all() == {}


def test_uses_are_seen_once_and_not_those_of_our_own(tmp_path: Path) -> None:
    routes = Routes(Home(str(tmp_path)))
    if not routes.shows_use():
        pytest.skip("this file system keeps no times of reading")
    routes.set("a.shop.localhost", 4001, public=True)
    routes.set("b.shop.localhost", 4002, public=False)
    routes.take_uses()
    assert routes.all() == {"a.shop.localhost": 4001, "b.shop.localhost": 4002}
    routes.set("a.shop.localhost", 4003, public=True)
    routes.take_uses()
    assert routes.take_uses() == frozenset()
    for _ in range(2):
        assert [path.name for path in (tmp_path / "router/closed/b.shop.localhost").glob("*")] == ["127.0.0.1:4002"]
        assert routes.take_uses() == {"b.shop.localhost"}
        assert routes.take_uses() == frozenset()
