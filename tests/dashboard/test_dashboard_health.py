"""What the dashboard says of what does not work: it is green only where everything is as it should be."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard_html import breadcrumb, fact, heading, marks, plain, row_of, title
from dashboard_world import Visitor, visited
from support import database_of, git, marked_shop, ok, provisioner, rows, status, statuses, until
from timeline_world import sent, timeline_page

from provisioner.kv import open_kv
from provisioner.kv.codec.key import encode

World = tuple[Path, Visitor]


@pytest.fixture
def world(home: Path, tmp_path: Path) -> Iterator[World]:
    repo = marked_shop(tmp_path / "shop", "login")
    with visited(home) as (_, visitor):
        yield repo, visitor


def page(repo: Path, timeline: str) -> str:
    return f"/databases/{database_of(repo, timeline)['id']}"


def test_a_failed_pre_deploy_is_an_error_wherever_the_timeline_is_shown(world: World) -> None:
    repo, visitor = world
    assert provisioner(repo, "app", "set", "--pre-deploy", 'test "$DENO_TIMELINE" = production').returncode == 1
    assert {row["timeline"]: row["status"] for row in status(repo)} == {
        "production": "connected",
        "git-branch/login": "error",
    }
    overview = visitor.get("/").text
    assert marks(row_of(overview, "default", "deno-kv")) == ["error: pre-deploy failed"]
    assert marks(row_of(overview, "shop", "main")) == ["error: pre-deploy failed"]
    for path in ("/instances/default", "/apps/shop"):
        text = visitor.get(path).text
        assert marks(row_of(text, "git-branch/login")) == ["error: pre-deploy failed"], path
        assert marks(row_of(text, "production")) == ["connected"], path
    assert marks(fact(visitor.get(page(repo, "git-branch/login")).text, "Status")) == ["error: pre-deploy failed"]
    assert marks(fact(visitor.get(timeline_page(repo, "login")).text, "Status")) == ["error"]
    ok(repo, "app", "set", "--pre-deploy", "true")
    assert marks(row_of(visitor.get("/").text, "shop", "main")) == ["connected"]
    assert marks(fact(visitor.get(page(repo, "git-branch/login")).text, "Status")) == ["connected"]


def test_an_archived_production_is_not_green_however_many_branches_are_connected(world: World) -> None:
    repo, visitor = world
    ok(repo, "database", "archive", "--yes", database_of(repo, "production")["name"])
    assert statuses(repo)["git-branch/login"] == "connected"
    overview = visitor.get("/").text
    assert marks(row_of(overview, "shop", "main")) == ["archived: production archived"]
    assert marks(row_of(overview, "default", "deno-kv")) == ["archived: production archived"]
    ok(repo, "database", "recover", rows(repo)[0]["id"])
    assert marks(row_of(visitor.get("/").text, "shop", "main")) == ["connected"]


def test_a_branch_that_is_gone_leaves_its_app_green(world: World) -> None:
    repo, visitor = world
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    assert statuses(repo)["git-branch/login"] == "archived"
    assert marks(row_of(visitor.get("/").text, "shop", "main")) == ["connected"]


def test_a_timeline_with_one_of_two_databases_archived_by_hand_is_not_connected(world: World) -> None:
    repo, visitor = world
    ok(repo, "instance", "add", "visits")
    ok(repo, "assign", "visits")
    (second,) = (row for row in rows(repo) if row["timeline"] == "git-branch/login" and row["instance"] == "visits")
    ok(repo, "database", "archive", "--yes", second["id"])
    assert {row["timeline"]: row["status"] for row in status(repo)}["git-branch/login"] == "archived"
    assert marks(fact(visitor.get(timeline_page(repo, "login")).text, "Status")) == ["archived"]
    ok(repo, "unassign", "visits", "--yes")
    ok(repo, "database", "recover", second["id"])


def test_what_an_instance_leaves_in_the_archive_when_it_is_unassigned_makes_nothing_grey(world: World) -> None:
    repo, visitor = world
    ok(repo, "instance", "add", "visits")
    ok(repo, "assign", "visits")
    ok(repo, "unassign", "visits", "--yes")
    assert {row["status"] for row in status(repo)} == {"connected"}
    assert marks(fact(visitor.get(timeline_page(repo, "login")).text, "Status")) == ["connected"]


def test_a_timeline_that_shares_has_the_state_of_what_it_uses(world: World) -> None:
    repo, visitor = world
    git(repo, "branch", "guest")
    ok(repo, "reconcile")
    own = page(repo, "git-branch/guest")
    ok(repo, "database", "share", "login", "guest")
    for path in ("/instances/default", "/apps/shop"):
        text = visitor.get(path).text
        assert marks(row_of(text, "git-branch/guest", "uses the database of git-branch/login")) == ["connected"], path
    listed = visitor.get("/apps/shop").text
    assert 'class="lane connected shared"' in listed
    assert 'class="lane archived' not in listed
    shown = visitor.get(own).text
    assert "uses the database of git-branch/login instead" in plain(shown)
    assert marks(fact(visitor.get(timeline_page(repo, "guest")).text, "Status")) == ["connected"]


def test_two_databases_of_one_timeline_are_told_apart_on_every_page(world: World) -> None:
    repo, visitor = world
    ok(repo, "instance", "add", "visits")
    ok(repo, "assign", "visits")
    ok(repo, "database", "fork", "--yes", "production", "login", "--instance", "visits")
    ok(repo, "database", "fork", "--yes", "production", "login", "--instance", "default")
    both = [row for row in rows(repo) if row["timeline"] == "git-branch/login"]
    for row in both:
        with open_kv(row["path"]) as kv:
            kv.set(("a",), row["instance"])
    found = {row["instance"]: row["id"] for row in both}
    key = encode(("a",)).hex()
    for path in ("", "/copies", "/keys", "/changes", "/new", f"/entry?key={key}", f"/edit?key={key}"):
        texts = {name: visitor.get(f"/databases/{each}{path}").text for name, each in found.items()}
        for name, text in texts.items():
            assert f"git-branch/login on {name}" in breadcrumb(text), path
            assert name in title(text), path
            if "key=" not in path and path != "/new":
                assert heading(text) == f"git-branch/login on {name}", path
    revealed = sent(visitor, f"/databases/{found['visits']}/reveal").text
    assert "git-branch/login on visits" in breadcrumb(revealed)
    log = plain(visitor.get("/activity").text)
    assert "git-branch/login on visits" in log
    assert "git-branch/login on default" in log
    lanes = visitor.get("/apps/shop").text.partition('<svg viewBox="0 0 920')[2].partition("</svg>")[0]
    assert "login on visits" in plain(lanes)
    assert "login on default" in plain(lanes)


def test_archiving_production_asks_for_the_name_of_its_app(world: World) -> None:
    repo, visitor = world
    database = database_of(repo, "production")
    archive = f"/databases/{database['id']}/archive"
    for answer in ("", "yes", database["name"]):
        asked = sent(visitor, archive, answer=answer)
        assert "Type shop" in plain(asked.text), answer
        assert statuses(repo)["production"] == "connected"
    refused = provisioner(repo, "database", "archive", database["name"])
    assert (refused.returncode, "confirmation required" in refused.stderr) == (1, True)
    assert sent(visitor, archive, answer="shop").status == 303
    assert statuses(repo)["production"] == "archived"
    purge = f"/databases/{database['id']}/purge"
    assert "Type shop" in plain(sent(visitor, purge, answer="yes").text)
    assert statuses(repo)["production"] == "archived"


def test_unassigning_what_holds_production_asks_for_the_name_of_the_app(world: World) -> None:
    repo, visitor = world
    fields = {"instance": "default", "app": "shop"}
    assert "Type shop" in plain(sent(visitor, "/unassign", **fields, answer="yes").text)
    assert statuses(repo)["production"] == "connected"
    assert sent(visitor, "/unassign", **fields, answer="shop").status == 303
    assert statuses(repo)["production"] == "archived"


def test_what_waits_for_its_pre_deploy_command_is_not_green_yet(world: World, tmp_path: Path) -> None:
    repo, visitor = world
    go_on = tmp_path / "go-on"
    command = ["provisioner", "app", "set", "--pre-deploy", f"until test -e {go_on}; do sleep 0.1; done"]
    with subprocess.Popen(command, cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as waiting:
        try:
            until(lambda: marks(row_of(visitor.get("/").text, "shop", "main")) == ["provisioning: pre-deploy"])
            assert marks(row_of(visitor.get("/apps/shop").text, "git-branch/login")) == ["provisioning: pre-deploy"]
        finally:
            go_on.touch()
    assert waiting.returncode == 0
    assert marks(row_of(visitor.get("/").text, "shop", "main")) == ["connected"]
