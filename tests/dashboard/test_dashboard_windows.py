"""In a real Chromium: several windows, a server that goes and comes, and a page that takes long to come. Nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import launched, log_in
from connect_world import Server, serving
from playwright.sync_api import Page, Route, expect
from support import git, marked_shop, ok

LINES = "A=1\nB=2\n"

World = tuple[Server, Path, Page]


@pytest.fixture
def world(home: Path, tmp_path: Path) -> Iterator[World]:
    repo = marked_shop(tmp_path / "shop", "login")
    with serving(home) as server, launched() as browser:
        page = browser.new_context().new_page()
        log_in(page, server.base, home)
        yield server, repo, page


def test_a_note_stands_in_the_window_in_which_the_change_was_made(world: World) -> None:
    server, _, page = world
    other = page.context.new_page()
    other.goto(f"{server.base}/activity")
    expect(other.get_by_text("Live", exact=True)).to_be_attached()
    for number in range(5):
        page.goto(f"{server.base}/apps/shop/variables")
        page.get_by_label("Name").fill(f"V{number}")
        page.get_by_label("Value").fill("1")
        page.get_by_role("button", name="Set", exact=True).click()
        expect(page.get_by_text(f"V{number} set for")).to_be_visible()


def test_what_is_typed_outlives_the_server_and_is_sent_by_who_logs_in_again(world: World, home: Path) -> None:
    server, _, page = world
    page.goto(f"{server.base}/apps/shop/variables?way=lines")
    lines = page.get_by_role("textbox", name="Lines")
    lines.fill(LINES)
    server.stop()
    server.start()
    expect(page.get_by_text("Logged out: log in in another window")).to_be_attached(timeout=20_000)
    expect(lines).to_have_value(LINES)
    log_in(page.context.new_page(), server.base, home)
    expect(page.get_by_text("Live", exact=True)).to_be_attached(timeout=20_000)
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_text("A, B set for")).to_be_visible()


def test_what_happens_before_a_page_listens_is_seen(world: World) -> None:
    server, repo, page = world

    def late(route: Route) -> None:
        git(repo, "branch", "meanwhile")
        ok(repo, "reconcile")
        route.continue_()

    page.context.route("**/events*", late, times=1)
    page.goto(f"{server.base}/apps/shop")
    expect(page.get_by_role("row").filter(has_text="git-branch/meanwhile")).to_be_visible()


def test_a_page_that_could_not_be_made_for_a_while_comes_back_by_itself(world: World) -> None:
    server, repo, page = world
    page.goto(f"{server.base}/apps/shop")
    page.evaluate("window.loaded = true")
    expect(page.get_by_text("Live", exact=True)).to_be_attached()
    fails = "**/apps/shop"
    page.route(fails, lambda route: route.fulfill(status=503, body="the server is shutting down"))
    git(repo, "branch", "meanwhile")
    ok(repo, "reconcile")
    expect(page.get_by_text("Reconnecting…")).to_be_attached()
    page.unroute(fails)
    expect(page.get_by_role("row").filter(has_text="git-branch/meanwhile")).to_be_visible()
    assert page.evaluate("window.loaded")
