"""In a real Chromium: several windows, a server that goes and comes, and a page that takes long to come. Nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from chromium import INSIDE, launched, log_in, visit
from connect_world import Server, serving
from dashboard_world import code
from playwright.sync_api import Error, Locator, Page, Request, Route, expect
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
    visit(other, f"{server.base}/activity")
    expect(other.get_by_text("Live", exact=True)).to_be_attached()
    for number in range(5):
        visit(page, f"{server.base}/apps/shop/variables")
        page.get_by_label("Name").fill(f"V{number}")
        page.get_by_label("Value").fill("1")
        page.get_by_role("button", name="Set", exact=True).click()
        expect(page.get_by_text(f"Set V{number} of")).to_be_visible()


def typing(page: Page, server: Server) -> Locator:
    """A form in which somebody has typed."""
    visit(page, f"{server.base}/apps/shop/variables?way=lines")
    lines = page.get_by_role("textbox", name="Lines")
    lines.fill(LINES)
    return lines


def end_sessions(repo: Path) -> None:
    for each in json.loads(ok(repo, "token", "list", "--json")):
        ok(repo, "token", "revoke", each["id"])


def test_a_restart_of_the_server_ends_no_session_and_loses_nothing_that_was_typed(world: World) -> None:
    server, _, page = world
    lines = typing(page, server)
    server.stop()
    expect(page.get_by_text("Reconnecting…")).to_be_attached()
    server.start()
    expect(page.get_by_text("Live", exact=True)).to_be_attached()
    expect(lines).to_have_value(LINES)
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_text("Set A, B of")).to_be_visible()


def test_what_is_typed_outlives_the_session_and_is_sent_after_a_login_in_another_tab(world: World, home: Path) -> None:
    server, repo, page = world
    lines = typing(page, server)
    end_sessions(repo)
    expect(page.get_by_text("You're logged out. Log in in another tab")).to_be_attached()
    expect(lines).to_have_value(LINES)
    log_in(page.context.new_page(), server.base, home)
    expect(page.get_by_text("Live", exact=True)).to_be_attached()
    expect(lines).to_have_value(LINES)
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_text("Set A, B of")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_what_is_sent_when_the_session_has_ended_is_in_the_form_again_after_the_login(
    world: World, home: Path, scripts: bool
) -> None:
    server, repo, first = world
    page = first.context.browser.new_context(java_script_enabled=scripts).new_page()  # type: ignore[union-attr]
    page.goto(f"{server.base}/login")
    page.get_by_label("One-time code or admin token").fill(code(home))
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(INSIDE)
    typing(page, server)
    end_sessions(repo)
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_text("nothing was changed")).to_be_visible()
    page.get_by_label("One-time code or admin token").fill(code(home))
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("textbox", name="Lines")).to_have_value(LINES)
    expect(page.get_by_text("the session had ended, so nothing was changed")).to_be_visible()
    assert json.loads(ok(repo, "var", "list", "--json")) == []
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_text("Set A, B of")).to_be_visible()


def test_what_is_sent_from_a_tab_whose_session_another_has_replaced_is_in_its_form_at_once(
    world: World, home: Path
) -> None:
    server, repo, page = world
    typing(page, server)
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    page.route("**/alive", lambda route: route.continue_() if sent else route.abort())  # it does not notice before
    end_sessions(repo)
    log_in(page.context.new_page(), server.base, home)
    page.evaluate("document.querySelector('form.stack').submit()")
    expect(page.get_by_role("textbox", name="Lines")).to_have_value(LINES)
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_text("Set A, B of")).to_be_visible()


def test_a_link_that_is_pasted_into_an_open_tab_logs_in(world: World, home: Path) -> None:
    server, _, first = world
    page = first.context.browser.new_context().new_page()  # type: ignore[union-attr]
    page.goto(f"{server.base}/login")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.goto(f"{server.base}/login#ptl_wrong")
    expect(page.get_by_text("Invalid code or token")).to_be_visible()
    page.goto(f"{server.base}/login#{code(home)}")
    page.wait_for_url(INSIDE)
    page.goto(f"{server.base}/login#{code(home)}")
    page.wait_for_url(INSIDE)
    expect(page.get_by_text("Logged in.")).to_be_visible()


def go(page: Page, address: str) -> None:
    """To an address that goes on to another one, perhaps before the browser says that it has got to the first."""
    with suppress(Error):
        page.goto(address, wait_until="commit")


def test_an_address_without_a_session_finds_the_one_of_another_tab(world: World) -> None:
    server, _, page = world
    other = page.context.new_page()
    go(other, f"{server.base}/apps/shop")
    expect(other.get_by_role("heading", name="shop", level=1)).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    go(other, f"{server.base}/apps/shop")
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()


def test_what_happens_before_a_page_listens_is_seen(world: World) -> None:
    server, repo, page = world

    def late(route: Route) -> None:
        git(repo, "branch", "meanwhile")
        ok(repo, "reconcile")
        route.continue_()

    page.context.route("**/events*", late, times=1)
    visit(page, f"{server.base}/apps/shop")
    expect(page.get_by_role("row").filter(has_text="git-branch/meanwhile")).to_be_visible()


def test_a_page_that_could_not_be_made_for_a_while_comes_back_by_itself(world: World) -> None:
    server, repo, page = world
    visit(page, f"{server.base}/apps/shop")
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
