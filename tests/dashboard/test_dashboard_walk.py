"""From an empty home to a deleted instance and back, in a real Chromium, with nothing but the dashboard and git."""

from __future__ import annotations

import re
from pathlib import Path

from chromium import launched, visit, visitor
from connect_world import serving
from playwright.sync_api import Locator, Page, expect
from support import add_branches, bare, git, ok, remount, repository, rows, small_disk

BRANCHES = 600  # takes a second, in which one can see what happens
_WATCH = """
() => {
  window.seen = [];
  const look = () => document.querySelectorAll(".pill").forEach((pill) => window.seen.push(pill.textContent));
  new MutationObserver(look).observe(document.body, {childList: true, subtree: true});
}
"""


def test_from_the_first_instance_to_its_deletion_and_back(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "clone")
    add_branches(clone, *(f"b{number:03}" for number in range(BRANCHES)))
    shop = bare(tmp_path / "shop.git", clone)
    ok(shop, "app", "add", "--name", "shop", "--grace", "0s")
    ok(shop, "hooks", "install")
    disk = small_disk(tmp_path / "disk", "size=1g")
    with (
        disk as place,
        serving(home) as server,
        launched() as browser,
        visitor(browser, server.base, home) as page,
    ):
        _add(page, place)
        with visitor(browser, server.base, home) as other:
            visit(other, f"{server.base}/instances/main")
            _assign(page, other)
        visit(page, f"{server.base}/apps/shop")
        page.evaluate("window.loaded = true")
        git(clone, "push", "-q", "hub", "HEAD:refs/heads/a-new-one")
        expect(_row(page, "git-branch/a-new-one")).to_contain_text("connected")
        assert page.evaluate("window.loaded")
        visit(page, f"{server.base}/instances/main")
        _break_and_mend(page, clone, place)
        _delete_and_undo(page)
        assert {row["status"] for row in rows(shop)} == {"connected"}


def _add(page: Page, place: Path) -> None:
    page.get_by_role("link", name="Add an instance").click()
    page.get_by_label("Name").fill("main")
    page.get_by_label("Directory on the server").fill(str(place / "kv"))
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="main", level=1)).to_be_visible()
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_role("heading", name="main can store databases")).to_be_visible()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Databases").click()
    expect(page.get_by_role("heading", name="Databases", level=1)).to_be_visible()


def _assign(page: Page, other: Page) -> None:
    """Somebody else has the page of the instance open meanwhile."""
    other.evaluate(_WATCH)
    page.get_by_role("link", name="Assign main").click()
    page.get_by_label("App", exact=True).select_option("shop")
    page.get_by_role("button", name="Assign").click()
    expect(page.get_by_role("heading", name="main", level=1)).to_be_visible()
    for each in (page, other):
        expect(each.get_by_text(f"{BRANCHES + 1}, {BRANCHES + 1} connected")).to_be_visible()
    seen = other.evaluate("window.seen")
    assert seen.index("provisioning") < seen.index("connected")
    expect(page.get_by_text(f"{BRANCHES + 1} of {BRANCHES + 1} databases connected, auto")).to_be_visible()


def _break_and_mend(page: Page, clone: Path, place: Path) -> None:
    page.evaluate("window.loaded = true")
    remount(place, "ro")
    git(clone, "push", "-q", "hub", "HEAD:refs/heads/a-second")
    row = _row(page, "git-branch/a-second")
    expect(row).to_contain_text("Read-only file system")
    expect(row.locator(".pill")).to_have_text("error")
    expect(page.get_by_text("1 failed")).to_be_visible()
    assert page.evaluate("window.loaded")
    row.get_by_role("link", name=re.compile("^Error and history")).click()
    expect(page.get_by_role("heading", name="Error")).to_be_visible()
    expect(page.get_by_role("cell", name="database.error").first).to_be_visible()
    page.go_back()
    remount(place, "rw")
    row.get_by_role("button", name=re.compile("^Fix")).click()
    expect(row.locator(".pill")).to_have_text("connected")
    expect(page.get_by_text("fixed", exact=True)).to_be_visible()


def _delete_and_undo(page: Page) -> None:
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Recoverable until")).to_be_visible()
    expect(page.get_by_role("region", name="Affected databases")).to_contain_text(
        re.compile(r"databases\s+shop  PRODUCTION")
    )
    page.get_by_label("Final backup").select_option("no")
    page.get_by_label("Type main").fill("mian")
    page.get_by_role("button", name="Delete main").click()
    expect(page.get_by_text("Nothing was changed")).to_be_visible()
    page.get_by_label("Type main").fill("main")
    page.get_by_role("button", name="Delete main").click()
    expect(page.get_by_role("heading", name="Deleted instances")).to_be_visible()
    page.get_by_role("button", name="Recover").click()
    expect(page.get_by_text(f"Recovered main with {BRANCHES + 3} live databases")).to_be_visible()


def _row(page: Page, timeline: str) -> Locator:
    return page.get_by_role("row").filter(has_text=timeline)
