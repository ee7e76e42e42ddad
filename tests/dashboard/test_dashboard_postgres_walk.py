"""A PostgreSQL server from its link to its deletion and back, in a real Chromium, with nothing but the dashboard and git."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from chromium import launched, problems, visit, visitor
from connect_world import serving
from pg_server import PgServer
from playwright.sync_api import Page, expect
from support import git, ok, repository

WINDOWS = (("light", 1280), ("dark", 360))


def test_a_server_is_linked_used_deleted_and_brought_back(home: Path, tmp_path: Path, pg: PgServer, axe: str) -> None:
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    with serving(home) as server, launched() as browser, visitor(browser, server.base, home) as page:
        _add(page, pg)
        _accessible(page, axe, f"{server.base}/add-instance", f"{server.base}/instances/main/edit")
        visit(page, f"{server.base}/assign?instance=main")
        page.get_by_role("button", name="Assign").click()
        expect(page.get_by_text("2, 2 connected")).to_be_visible()
        page.evaluate("window.loaded = true")
        git(repo, "branch", "cart")
        ok(repo, "reconcile")
        expect(page.get_by_role("row").filter(has_text="git-branch/cart")).to_contain_text("connected")
        assert page.evaluate("window.loaded")
        _accessible(page, axe, f"{server.base}/instances/main", f"{server.base}/apps/shop")
        visit(page, f"{server.base}/instances/main")
        page.get_by_role("button", name=re.compile("^Reveal")).first.click()
        url = _revealed(page, pg)
        page.get_by_role("link", name="Hide").click()
        _accessible(page, axe, page.url, f"{page.url}/copies", f"{page.url}/keys")
        visit(page, f"{server.base}/instances/main")
        _delete_and_undo(page)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            psycopg.connect(url)  # what was given before the instance was deleted ended with it
        visit(page, f"{server.base}/instances/main")
        page.get_by_role("button", name=re.compile("^Reveal")).first.click()
        with psycopg.connect(page.locator("#database_url").inner_text()) as connection:
            assert connection.execute("select word from mark").fetchall() == [("here",)]


def _add(page: Page, pg: PgServer) -> None:
    page.get_by_role("link", name="Add an instance").click()
    page.get_by_label("Name").fill("main")
    page.get_by_label("Engine").select_option("postgres")
    page.get_by_label("URL of a PostgreSQL server").fill(f"postgresql://admin@127.0.0.1:{pg.port}/postgres")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("does not accept this user and password")).to_be_visible()
    expect(page.get_by_label("Password")).to_have_value("")
    page.get_by_label("Password").fill(pg.password)
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="main", level=1)).to_be_visible()
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_role("heading", name="main can store databases")).to_be_visible()


def _revealed(page: Page, pg: PgServer) -> str:
    """The URL that is shown, by which something is written."""
    expect(page.get_by_role("term").filter(has_text="PGPASSWORD")).to_be_visible()
    url = page.locator("#database_url").inner_text()
    assert pg.password not in page.content()
    with psycopg.connect(url) as connection:
        connection.execute("create table mark as select 'here' as word")
    return url


def _delete_and_undo(page: Page) -> None:
    page.get_by_role("button", name="Delete").click()
    page.get_by_label("Final backup").select_option("no")
    page.get_by_label("Type main").fill("main")
    page.get_by_role("button", name="Delete main").click()
    expect(page.get_by_role("heading", name="Deleted instances")).to_be_visible()
    page.get_by_role("button", name="Recover").click()
    expect(page.get_by_text("Recovered main with 3 live databases")).to_be_visible()


def _accessible(page: Page, axe: str, *addresses: str) -> None:
    """Whoever visits these, however wide the window is; with the policy of the pages out of axe's way."""
    browser = page.context.browser
    assert browser is not None
    found = {}
    with_cookies = page.context.storage_state()
    for scheme, width in WINDOWS:
        context = browser.new_context(
            color_scheme="dark" if scheme == "dark" else "light",
            viewport={"width": width, "height": 800},
            bypass_csp=True,
            storage_state=with_cookies,
        )
        for address in addresses:
            other = context.new_page()
            visit(other, address)
            found[scheme, width, address] = problems(other, axe)
            other.close()
        context.close()
    assert {where: wrong for where, wrong in found.items() if wrong} == {}
