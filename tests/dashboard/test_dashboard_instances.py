"""Instances from the dashboard: added, tested, assigned, edited, mended, deleted and brought back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from connect_world import token
from dashboard_desk import Desk, at_the_desk
from dashboard_world import Visitor
from support import (
    add_branches,
    database_of,
    events,
    git,
    marked_shop,
    ok,
    remount,
    repository,
    rows,
    small_disk,
    statuses,
)
from timeline_world import refusal

from provisioner.core.clock import now_ms
from provisioner.core.model import Status
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.operations.instance.addition import add
from provisioner.operations.proposal import NULL_REPORTER
from provisioner.reconcile.controller import reconcile
from provisioner.registry.instances import databases_of
from provisioner.registry.store import Registry
from provisioner.system.home import Home

HOSTILE = "<img src=x onerror=alert(1)>\"'\u202e"


@pytest.fixture
def world(home: Path, tmp_path: Path) -> Iterator[tuple[Path, Desk]]:
    repo = marked_shop(tmp_path / "shop", "login")
    with at_the_desk(home) as desk:
        yield repo, desk


def listed(repo: Path, *options: str) -> dict[str, dict[str, object]]:
    return {each["instance"]: each for each in json.loads(ok(repo, "instance", "list", "--json", *options))}


def test_an_instance_is_added_and_stores_in_the_home(world: tuple[Path, Desk], home: Path) -> None:
    repo, desk = world
    assert 'href="/add-instance"' in desk.get("/").text
    assert desk.send("/add-instance", name="extra", engine="deno-kv").location == "/instances/extra"
    assert listed(repo)["extra"]["location"] == str(home / "instances" / "extra")
    page = desk.get("/instances/extra").text
    assert 'href="/assign?instance=extra"' in page
    assert "No app uses this instance" in page
    assert events(home, "instance.add")[-1] == "login link"


WRONG_NAMES = (
    ("default", "instance &#39;default&#39; already exists", 409),
    ("", "an instance", 400),
    (HOSTILE, "cannot be the name", 400),
    ("1st", "none may start with a digit", 400),
    ("x" * 100, "an instance", 400),
)


def test_a_name_that_cannot_be_stays_in_its_field_and_says_why(world: tuple[Path, Desk]) -> None:
    repo, desk = world
    for name, wrong, status in WRONG_NAMES:
        answer = desk.send("/add-instance", name=name, engine="deno-kv")
        assert (answer.status, wrong in answer.text) == (status, True), name
        assert 'aria-describedby="name-wrong name-hint"' in answer.text
        assert "<img" not in answer.text
        assert "\u202e" not in answer.text
        assert name == HOSTILE or f'value="{name}"' in answer.text
    assert list(listed(repo)) == ["default"]


def test_a_directory_is_for_who_is_at_home_to_say(world: tuple[Path, Desk], tmp_path: Path) -> None:
    repo, desk = world
    place = str(tmp_path / "kv")
    other = Visitor(desk.visitor.base)
    other.log_in(token(repo, "--admin"))
    for path in ("/add-instance", "/instances/default/edit"):
        assert ('name="directory"' in desk.get(path).text, 'name="directory"' in other.get(path).text) == (True, False)
        refused = other.post(path, {"csrf": other.csrf, "name": "extra", "engine": "deno-kv", "directory": place})
        assert (refused.status, "provisioner dashboard" in refused.text) == (400, True)
    assert desk.send("/add-instance", name="extra", engine="deno-kv", directory=place).status == 303
    assert listed(repo)["extra"]["location"] == place
    taken = desk.send("/add-instance", name="more", engine="deno-kv", directory=place)
    assert (taken.status, 'id="directory-wrong"' in taken.text, f'value="{place}"' in taken.text) == (409, True, True)
    (tmp_path / "file").touch()
    unusable = desk.send("/add-instance", name="more", engine="deno-kv", directory=str(tmp_path / "file" / "kv"))
    assert (unusable.status, 'id="directory-wrong"' in unusable.text) == (409, True)
    assert (
        other.post("/add-instance", {"csrf": other.csrf, "name": "plain", "engine": "deno-kv"}).location
        == "/instances/plain"
    )
    assert desk.send("/add-instance", name="sql", engine="nosuch").status == 400


def test_a_test_says_what_is_well_and_what_is_wrong(world: tuple[Path, Desk], tmp_path: Path) -> None:
    _, desk = world
    well = desk.send("/instances/default/test")
    assert (well.status, well.text.count(">ok<"), ">failed<" in well.text) == (200, 5, False)
    with small_disk(tmp_path / "disk", "size=32m") as disk:
        desk.send("/add-instance", name="small", engine="deno-kv", directory=str(disk / "kv"))
        remount(disk, "ro")
        wrong = desk.send("/instances/small/test")
    assert "small cannot store databases" in wrong.text
    assert "Read-only file system" in wrong.text
    assert ">failed<" in wrong.text
    assert desk.send("/instances/none/test").status == 404


def test_an_instance_gets_another_name_and_gets_it_back(world: tuple[Path, Desk], home: Path) -> None:
    repo, desk = world
    refused = desk.send("/instances/default/edit", name="x_y")
    assert (refused.status, 'value="x_y"' in refused.text) == (400, True)
    assert desk.send("/instances/default/edit", name="main-data").location == "/instances/main-data"
    assert list(listed(repo)) == ["main-data"]
    assert desk.press("/instances/main-data", "Undo").location == "/instances/default"
    assert list(listed(repo)) == ["default"]
    assert events(home, "instance.edit") == ["login link", "login link"]


def test_an_instance_that_was_moved_is_found_again(world: tuple[Path, Desk], home: Path, tmp_path: Path) -> None:
    repo, desk = world
    place = tmp_path / "moved"
    early = desk.send("/instances/default/edit", name="default", directory=str(place))
    assert (early.status, "are not in" in early.text, 'id="directory-wrong"' in early.text) == (409, True, True)
    (home / "instances" / "default").rename(place)
    assert desk.send("/instances/default/edit", name="default", directory=str(place)).status == 303
    assert database_of(repo, "production")["path"].startswith(str(place))


# assignments


def test_an_instance_is_assigned_with_what_new_branches_begin_with(world: tuple[Path, Desk], home: Path) -> None:
    repo, desk = world
    ok(repo, "instance", "add", "extra")
    assert 'href="/assign?instance=extra"' in desk.get("/").text
    form = desk.get("/assign?instance=extra").text
    assert '<option value="shop">' in form
    answer = desk.send("/assign", instance="extra", app="shop", begins="fork:production", connect="file")
    assert answer.location == "/instances/extra"
    assert "of 4 databases connected, file" in desk.get("/instances/extra").text
    assert {row["status"] for row in rows(repo)} == {"connected"}
    assert events(home, "assign")[-1] == "login link"
    git(repo, "branch", "later")
    ok(repo, "reconcile")
    (later,) = [row for row in rows(repo) if (row["timeline"], row["instance"]) == ("git-branch/later", "extra")]
    assert later["forked_from"] is not None
    settings = desk.get("/assign?instance=extra&app=shop&from=app").text
    assert '<option value="fork:production" selected>' in settings
    assert '<option value="file" selected>' in settings


def test_the_settings_of_an_assignment_are_changed_and_changed_back(world: tuple[Path, Desk], home: Path) -> None:
    repo, desk = world
    ok(repo, "assign", "default", "--new-branch", "fork:login", "--scrub", "true")
    page = desk.get("/apps/shop").text
    assert "fork:login" in page
    assert "<code>true</code>" in page
    form = desk.get("/assign?instance=default&app=shop&from=app").text
    assert '<option value="branch" selected>' in form
    assert 'value="login"' in form
    assert "Scrub command, within 600 s: <code>true</code>" in form
    fields = {"instance": "default", "app": "shop", "connect": "url", "from_": "app"}
    refused = desk.send("/assign", begins="branch", branch=" ", **fields)
    assert (refused.status, 'id="branch-wrong"' in refused.text, '"url" selected' in refused.text) == (400, True, True)
    assert desk.send("/assign", begins="branch", branch="parent", **fields).location == "/apps/shop"
    page = desk.get("/apps/shop").text
    assert "fork:git-branch/parent" in page
    assert 'data-label="Connection">url<' in page
    offer = desk.send("/assign", begins="empty", **fields)
    assert offer.status == 303
    assert desk.press("/apps/shop", "Undo").location == "/instances/default"
    assert "fork:git-branch/parent" in desk.get("/apps/shop").text
    for wrong in ({"connect": "socket"}, {"begins": "nonsense"}):
        assert desk.send("/assign", **{**fields, "begins": "empty", **wrong}).status == 400
    assert desk.send("/assign", instance="none", app="shop").status == 409
    assert desk.send("/assign", instance="default", app="none").status == 404


def test_names_are_text_on_each_page_that_asks(world: tuple[Path, Desk]) -> None:
    repo, desk = world
    branch = "<b>'\"&\u202e"
    git(repo, "branch", branch)
    ok(repo, "reconcile")
    desk.send("/assign", instance="default", app="shop", begins="branch", branch=branch)
    texts = [
        desk.send("/instances/default/delete").text,
        *(desk.get(path).text for path in ("/apps/shop", "/instances/default", "/assign?instance=default&app=shop")),
        *(desk.get(f"/assign?instance={quote(each)}&app={quote(each)}").text for each in (branch, HOSTILE)),
        desk.send("/assign", instance=HOSTILE, app="shop").text,
        desk.send("/assign", instance="default", app=HOSTILE).text,
        desk.send("/assign", instance="default", app="shop", begins="branch", branch=branch, connect=HOSTILE).text,
    ]
    for text in texts:
        assert "<b>" not in text
        assert "<img" not in text
        assert "\u202e" not in text
    assert all("&lt;b&gt;" in text for text in texts[:4])


def test_what_is_unassigned_is_asked_back_and_comes_back_with_its_settings(
    world: tuple[Path, Desk], home: Path
) -> None:
    repo, desk = world
    ok(repo, "assign", "default", "--new-branch", "fork:parent", "--connect", "file")
    fields = {"instance": "default", "app": "shop", "from_": "app"}
    asked = desk.send("/unassign", **fields)
    assert "Unassign default from shop? Its data is kept" in asked.text
    assert statuses(repo)["production"] == "connected"
    assert desk.send("/unassign", answer="shop", **fields).location == "/apps/shop"
    assert set(statuses(repo).values()) == {"archived"}
    assert "is not assigned to shop" in refusal(desk.visitor, desk.send("/unassign", answer="yes", **fields))
    assert "This app has no instance" in desk.get("/apps/shop").text
    assert desk.send("/assign", instance="default", app="shop").location == "/instances/default"
    assert set(statuses(repo).values()) == {"connected"}
    assert desk.press("/instances/default", "Undo").status == 200
    assert "fork:parent" in desk.get("/apps/shop").text
    assert events(home, "unassign") == ["login link"]


def test_where_there_is_nothing_to_assign_the_page_says_what_to_do(home: Path, tmp_path: Path) -> None:
    with at_the_desk(home) as desk:
        assert 'href="/add-instance"' in desk.get("/assign").text
        desk.send("/add-instance", name="first", engine="deno-kv")
        assert "provisioner init" in desk.get("/assign").text
        repo = repository(tmp_path / "shop")
        ok(repo, "app", "add", "--name", "shop")
        assert "<select" in desk.get("/assign?app=shop").text
        desk.send("/assign", instance="first", app="shop")
        assert "This app already has every instance" in desk.get("/assign?app=shop").text
        assert "Every app already has this instance" in desk.get("/assign?instance=first").text


# what is in error


def test_databases_in_error_are_fixed_one_by_one_or_all(world: tuple[Path, Desk], tmp_path: Path) -> None:
    repo, desk = world
    add_branches(repo, "one", "two")
    with small_disk(tmp_path / "disk", "size=32m") as disk:
        desk.send("/add-instance", name="small", engine="deno-kv", directory=str(disk / "kv"))
        remount(disk, "ro")
        desk.send("/assign", instance="small", app="shop")
        page = desk.get("/instances/small").text
        assert "Fix all" in page
        assert "Read-only file system" in page
        assert "4 failed" in page
        database = next(row["id"] for row in rows(repo) if row["instance"] == "small")
        assert f'href="/databases/{database}#history"' in page
        assert "Read-only" in refusal(desk.visitor, desk.send("/instances/small/fix", database=database))
        remount(disk, "rw")
        assert desk.send("/instances/small/fix", database=database).location == "/instances/small"
        found = [row["status"] for row in rows(repo) if row["instance"] == "small"]
        assert sorted(found) == ["connected", "error", "error", "error"]
        assert desk.send("/instances/small/fix").location == "/instances/small"
        assert "Fixed 3 databases of small" in desk.get("/instances/small").text
        assert {row["status"] for row in rows(repo)} == {"connected"}
        assert desk.send("/instances/default/fix", database=database).status == 404
        assert desk.send("/instances/default/fix", database="none").status == 404


# deleting


def test_an_instance_is_deleted_by_typing_its_name_and_comes_back(world: tuple[Path, Desk], home: Path) -> None:
    repo, desk = world
    before = {row["id"]: row["status"] for row in rows(repo)}
    asked = desk.send("/instances/default/delete")
    assert (asked.status, "PRODUCTION" in asked.text, "Recoverable until" in asked.text) == (
        200,
        True,
        True,
    )
    assert "Type default" in asked.text
    for answer in ("yes", "Default", HOSTILE):
        refused = desk.send("/instances/default/delete", answer=answer, backup="no")
        assert (refused.status, "Nothing was changed" in refused.text, "<img" in refused.text) == (409, True, False)
        assert '<option value="no" selected>' in refused.text
    assert desk.send("/instances/default/delete", answer="default", backup="yes").location == "/"
    page = desk.get("/").text
    assert "Deleted instances" in page
    assert "Backup: " in page.partition("<h1")[0]
    assert list(listed(repo)) == []
    (gone,) = listed(repo, "--deleted").values()
    assert Path(str(gone["backup"])).exists()
    assert desk.send(f"/deleted/{gone['id']}/recover").location == "/instances/default"
    assert {row["id"]: row["status"] for row in rows(repo)} == before
    assert desk.send(f"/deleted/{gone['id']}/recover").status == 404
    assert desk.send("/instances/default/delete", answer="default", backup="no").location == "/"
    assert desk.press("/", "Undo").location == "/instances/default"
    assert {row["id"]: row["status"] for row in rows(repo)} == before
    assert events(home, "instance.delete") == events(home, "instance.recover") == ["login link"] * 2


def test_what_is_protected_keeps_its_instance(world: tuple[Path, Desk]) -> None:
    repo, desk = world
    ok(repo, "timeline", "protect", "login")
    refused = desk.send("/instances/default/delete")
    assert "provisioner timeline unprotect" in refusal(desk.visitor, refused)


def test_who_may_only_read_sees_all_and_is_offered_nothing(world: tuple[Path, Desk]) -> None:
    repo, desk = world
    ok(repo, "instance", "add", "extra")
    ok(repo, "instance", "delete", "extra", "--yes")
    reader = Visitor(desk.visitor.base)
    reader.log_in(token(repo, "--admin", "--read-only"))
    for path in ("/", "/instances/default", "/apps/shop", "/add-instance", "/instances/default/edit", "/assign"):
        text = reader.get(path).text
        assert re.findall(r'<form method="post" action="([^"]+)"', text) == ["/logout"], path


# while it happens


def test_who_watches_is_told_that_databases_are_being_made_before_they_are(home: Path, tmp_path: Path) -> None:
    marked_shop(tmp_path / "shop", "login", "other")
    seen: list[tuple[str, int, list[Status]]] = []
    with Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
        carried = add(registry, "extra", "deno-kv", StorageTarget()).do(NULL_REPORTER)
        assert len(list(carried)) == 1
        extra = next(each for each in registry.instances() if each.slug == "extra")
        registry.assign(extra, app, 1)

        def progress(verb: str, count: int) -> None:
            seen.append((verb, count, [each.status for each in databases_of(registry, extra.id)]))

        reconcile(registry, app, now_ms(), "test", progress=progress)
    assert seen[0] == ("ensure", 0, [Status.PROVISIONING] * len(seen[0][2]))
    assert seen[0][2]
    assert seen[-1][2] == [Status.CONNECTED] * 3
