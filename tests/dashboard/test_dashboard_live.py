"""In a real Chromium: a log as it is written, and a change with its question and its way back, without a reload."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import launched, visit, visitor
from connect_world import Server, serving
from playwright.sync_api import Page, expect
from support import database_of, git, got, marked_shop, ok, provisioner, until

World = tuple[Server, Path, Page]


@pytest.fixture
def world(home: Path, tmp_path: Path) -> Iterator[World]:
    repo = marked_shop(tmp_path / "shop", "login")
    with serving(home) as server, launched() as browser, visitor(browser, server.base, home) as page:
        yield server, repo, page


def test_a_log_is_read_as_it_is_written_and_followed_to_its_end(world: World, tmp_path: Path) -> None:
    server, repo, page = world
    go_on = tmp_path / "go-on"
    command = f"test -e {go_on}.0 || exit 3; seq 1 400; until test -e {go_on}.1; do sleep 0.1; done; seq 401 800"
    command += f"; until test -e {go_on}.2; do sleep 0.1; done; echo over"
    assert provisioner(repo, "app", "set", "--pre-deploy", command).returncode == 1
    visit(page, f"{server.base}/apps/shop")
    row = page.get_by_role("row").filter(has_text="git-branch/login")
    row.get_by_role("link", name="pre-deploy failed").click()
    expect(page.get_by_text("it ended with exit code 3").first).to_be_visible()
    Path(f"{go_on}.0").touch()
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("row").filter(has_text="running").get_by_role("link").click()
    page.evaluate("window.loaded = true")
    log = page.get_by_role("region", name="Log")
    expect(log).to_contain_text("400")
    until(lambda: _at_the_end(page))
    Path(f"{go_on}.1").touch()
    expect(log).to_contain_text("800")
    until(lambda: _at_the_end(page))
    page.locator("#log").evaluate("log => log.scrollTo(0, 40)")
    Path(f"{go_on}.2").touch()
    expect(log).to_contain_text("over")
    expect(page.locator("dd .pill").first).to_have_text("succeeded")
    assert page.locator("#log").evaluate("log => log.scrollTop") == 40
    assert page.evaluate("window.loaded")


def _at_the_end(page: Page) -> bool:
    there = "log => log.scrollTop > 0 && log.scrollTop + log.clientHeight >= log.scrollHeight - 4"
    return bool(page.locator("#log").evaluate(there))


def test_a_fork_is_chosen_by_typing_asked_back_and_taken_back(world: World) -> None:
    server, repo, page = world
    for number in range(60):
        git(repo, "branch", f"many/{number:02}")
    ok(repo, "reconcile")
    database = database_of(repo, "git-branch/login")["id"]
    visit(page, f"{server.base}/databases/{database}/copies")
    field = page.get_by_label("Source")
    field.press_sequentially("many/57")
    expect(page.locator("#source-names option")).to_have_count(1)
    assert page.locator("#source-names option").get_attribute("value") == "git-branch/many/57"
    git(repo, "branch", "meanwhile")
    ok(repo, "reconcile")  # what is typed stays though the page changes
    expect(field).to_have_value("many/57")
    field.fill("production")
    page.get_by_role("button", name="Fork", exact=True).click()
    expect(page.get_by_text("Its current data becomes a snapshot")).to_be_visible()
    ok(repo, "timeline", "protect", "meanwhile")  # a page that asks is not sent again by a change
    page.get_by_role("button", name=re.compile("^Replace shop--login")).click()
    page.get_by_role("button", name="Restore previous data").click()
    assert got(database_of(repo, "git-branch/login")["path"]) == "production"
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_text("Restored ")).to_be_visible()
    assert got(database_of(repo, "git-branch/login")["path"]) == "git-branch/login"


def test_what_is_typed_or_chosen_in_a_part_that_changes_is_not_taken_away(world: World) -> None:
    server, repo, page = world
    visit(page, f"{server.base}/apps/shop")
    page.evaluate(
        """() => { const field = document.createElement("input"); field.id = "typed";
        field.value = "kept"; document.getElementById("live").prepend(field); }"""
    )
    with page.expect_response("**/apps/shop") as fetched:
        git(repo, "branch", "appears")
        ok(repo, "reconcile")
    fetched.value.finished()
    expect(page.locator("#typed")).to_have_value("kept")
    page.locator("#typed").evaluate("field => { field.value = ''; }")
    git(repo, "branch", "follows")
    ok(repo, "reconcile")
    expect(page.get_by_role("row").filter(has_text="git-branch/follows")).to_be_visible()
