"""Changes from the dashboard: asked back where they take something away, done as the command line does, noted with who."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dashboard_world import Answer, Visitor, visited
from support import add_branches, database_of, events, marked_shop, ok, provisioner, rows, statuses, until
from timeline_world import refusal

LOGIN = "git-branch/login"


@pytest.fixture
def world(home: Path, tmp_path: Path) -> Iterator[tuple[Path, Visitor]]:
    repo = marked_shop(tmp_path / "shop", "login")
    with visited(home) as (_, visitor):
        yield repo, visitor


def sent(visitor: Visitor, path: str, **fields: str) -> Answer:
    return visitor.post(path, {"csrf": visitor.csrf, **fields})


def test_what_takes_something_away_is_asked_back_and_can_be_undone(world: tuple[Path, Visitor], home: Path) -> None:
    repo, visitor = world
    page = f"/databases/{database_of(repo, LOGIN)['id']}"
    asked = sent(visitor, f"{page}/archive")
    assert (asked.status, statuses(repo)[LOGIN]) == (200, "connected")
    assert "lose access to it until you recover it" in asked.text
    assert sent(visitor, f"{page}/archive", answer="no").status == 200
    assert statuses(repo)[LOGIN] == "connected"
    assert sent(visitor, f"{page}/archive", answer="yes").location == page
    assert statuses(repo)[LOGIN] == "archived"
    after = visitor.get(page).text
    assert "is archived" in after.partition("<h1")[0]
    assert f'action="{page}/recover"' in after
    assert sent(visitor, f"{page}/recover").location == page
    assert statuses(repo)[LOGIN] == "connected"
    assert events(home, "database.hold-archived") == events(home, "database.hold-connected") == ["login link"]


def test_what_cannot_be_done_says_why_and_what_to_do(world: tuple[Path, Visitor]) -> None:
    repo, visitor = world
    ok(repo, "timeline", "protect", "login")
    why = refusal(visitor, sent(visitor, f"/databases/{database_of(repo, LOGIN)['id']}/archive", answer="yes"))
    assert "its timeline is protected" in why
    assert "provisioner timeline unprotect" in why


def test_what_fails_is_mended_by_fix(world: tuple[Path, Visitor], home: Path) -> None:
    repo, visitor = world
    database = database_of(repo, LOGIN)
    with closing(sqlite3.connect(home / "registry.db")) as registry, registry:
        registry.execute("update database set status = 'error', error = 'no room' where id = ?", (database["id"],))
    page = f"/databases/{database['id']}"
    assert "no room" in visitor.get(page).text
    assert sent(visitor, f"{page}/fix").location == page
    assert "fixed" in visitor.get(page).text
    assert statuses(repo)[LOGIN] == "connected"


def test_what_happened_between_question_and_answer_is_not_undone(world: tuple[Path, Visitor]) -> None:
    repo, visitor = world
    database = database_of(repo, LOGIN)
    sent(visitor, f"/databases/{database['id']}/archive")
    ok(repo, "database", "fork", "--yes", "production", "login")
    sent(visitor, f"/databases/{database['id']}/archive", answer="yes")
    found = next(item for item in rows(repo) if item["id"] == database["id"])
    assert (found["status"], found["forked_from"]) == ("archived", database_of(repo, "production")["name"])


def asked(answer: Answer) -> dict[str, str]:
    """What the page that asks back would send."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', answer.text.partition("<h1")[2]))


def test_an_answer_is_good_for_the_question_that_was_read(world: tuple[Path, Visitor]) -> None:
    repo, visitor = world
    database = database_of(repo, LOGIN)
    archive = f"/databases/{database['id']}/archive"
    read = asked(sent(visitor, archive))
    add_branches(repo, "other")
    ok(repo, "reconcile")
    ok(repo, "database", "share", "login", "other")
    again = visitor.post(archive, read)
    assert (
        again.status,
        "changed while you were deciding" in again.text,
        "git-branch/other uses it too" in again.text,
    ) == (
        409,
        True,
        True,
    )
    assert statuses(repo)[LOGIN] == "connected"
    assert visitor.post(archive, asked(again)).status == 303
    assert statuses(repo)[LOGIN] == "archived"


def test_an_instance_that_has_got_the_name_of_another_is_not_deleted_in_its_place(world: tuple[Path, Visitor]) -> None:
    repo, visitor = world
    ok(repo, "instance", "add", "spare")
    read = asked(sent(visitor, "/instances/spare/delete"))
    ok(repo, "instance", "edit", "spare", "--name", "third")
    ok(repo, "instance", "edit", "default", "--name", "spare")
    again = visitor.post("/instances/spare/delete", {**read, "answer": "spare", "backup": "no"})
    assert (again.status, "changed while you were deciding" in again.text, "PRODUCTION" in again.text) == (
        409,
        True,
        True,
    )
    assert set(statuses(repo).values()) == {"connected"}
    assert visitor.post("/instances/third/delete", {**read, "answer": "third", "backup": "no"}).status == 303


def test_what_takes_long_goes_on_and_says_when_it_is_over(world: tuple[Path, Visitor], tmp_path: Path) -> None:
    repo, visitor = world
    go_on = tmp_path / "go-on"
    refused = provisioner(repo, "app", "set", "--pre-deploy", f"test ! -e {go_on} && exit 3; sleep 2; echo made it")
    assert refused.returncode == 1
    go_on.touch()
    page = f"/databases/{database_of(repo, LOGIN)['id']}"
    assert visitor.post(f"{page}/fix", {"csrf": visitor.csrf}, prefer="").location == page
    assert "being applied" in visitor.get("/").text
    seen: list[str] = []

    def over() -> bool:
        seen.append(visitor.get("/").text)
        return ">fixed<" in seen[-1]

    until(over)
    assert "being applied" not in seen[-1]
    assert ">fixed<" not in visitor.get("/").text
