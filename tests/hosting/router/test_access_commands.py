"""Links and CI's secrets are created, listed, and revoked by commands."""

from __future__ import annotations

import json
from pathlib import Path

from router_world import world
from support import git, ok, provisioner

from provisioner.core.clock import now_ms
from provisioner.hosting.router.waking import Site
from provisioner.registry.store import Registry
from provisioner.system.router_address import RouterAddress, record


def shop(tmp_path: Path) -> Path:
    repository = tmp_path / "shop"
    git(tmp_path, "init", "-q", str(repository))
    git(repository, "commit", "-q", "--allow-empty", "-m", "a")
    ok(repository, "init", "--no-hooks")
    return repository


def test_a_secret_for_ci_is_created_listed_and_revoked(tmp_path: Path, home: Path) -> None:
    repository = shop(tmp_path)
    secret = ok(repository, "token", "create", "--app", "shop", "--previews", "--label", "GitHub").strip()
    with world(home, start=False) as found, Registry.open(found.home) as registry:
        site = Site(registry.apps()[0].id, "shop, login", public=False)
        assert found.access.bypasses_with(site, secret, now_ms())
        (listed,) = json.loads(ok(repository, "token", "list", "--app", "shop", "--json"))
        assert (listed["scope"], listed["app"], listed["label"], listed["expires_at"]) == (
            "previews",
            "shop",
            "GitHub",
            None,
        )
        assert "shop (previews, by CI's header)" in ok(repository, "token", "list")
        said = ok(repository, "token", "revoke", listed["id"])
        assert said == f"Revoked previews, by CI's header {listed['id']}\n"
        assert not found.access.bypasses_with(site, secret, now_ms())
    assert json.loads(ok(repository, "token", "list", "--json")) == []
    refused = provisioner(repository, "token", "create", "--admin", "--previews")
    assert (refused.returncode, "--previews requires --app APP alone" in refused.stderr) == (2, True)


def test_a_link_is_printed_signs_in_and_is_revoked_with_its_sessions(tmp_path: Path, home: Path) -> None:
    repository = shop(tmp_path)
    ok(repository, "app", "run", "--command", "true")
    with world(home) as found:
        record(found.home, RouterAddress("http", "localhost", found.port, everyone=False))
        with Registry.open(found.home) as registry:
            found.apps.site("shop.localhost", public=False, app_id=registry.apps()[0].id, production=True)
        link = ok(repository, "open", "--share", "2h").strip()
        start, _, path = link.partition("/.provisioner/")
        assert start == f"http://shop.localhost:{found.port}"
        with found.request("shop.localhost", f"/.provisioner/{path}") as answer:
            assert answer.status == 303
            assert "provisioner_preview=" in (answer.getheader("set-cookie") or "")
        listed = {each["scope"]: each for each in json.loads(ok(repository, "token", "list", "--json"))}
        assert set(listed) == {"link", "preview-session"}
        assert listed["link"]["label"] == "shop.localhost"
        ok(repository, "token", "revoke", listed["link"]["id"])
        assert json.loads(ok(repository, "token", "list", "--json")) == []
