"""An app of a branch in a real Chromium, from the dashboard: pushed, opened, watched, stopped, and rolled back."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from chromium import launched, log_in, problems, visit, visitor
from dashboard_world import code
from playwright.sync_api import Browser, Page, expect
from preview_world import PreviewWorld, previews
from support import free_port, git, until

BUILD = "echo compiling; test ! -e broken || { echo 'no such module'; exit 9; }"


@dataclass(frozen=True, slots=True)
class Walk:
    """Previews that ask for a sign-in, and a browser that resolves their names."""

    world: PreviewWorld
    base: str
    browser: Browser


@pytest.fixture(scope="module")
def walk(shared_home: Path) -> Iterator[Walk]:
    port = free_port()
    run = ("--command", "exec python3 server.py", "--build", BUILD)
    options = ("--port", str(port), "--domain", "previews.test")
    with (
        previews(shared_home.parent / "walk", shared_home, *run, options=options) as world,
        launched("--host-resolver-rules=MAP *.previews.test 127.0.0.1") as browser,
    ):
        yield Walk(world, f"http://127.0.0.1:{port}", browser)


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


@contextmanager
def followed(repository: Path) -> Iterator[Path]:
    """What `provisioner logs -f` prints, from when it is there."""
    printed = repository.parent / "followed"
    with printed.open("wb") as file:
        process = subprocess.Popen(("provisioner", "logs", "login", "-f"), cwd=repository, stdout=file)
    try:
        until(lambda: "starting two" in printed.read_text())
        yield printed
    finally:
        process.terminate()
        process.wait(60)


def reloaded(page: Page) -> str:
    page.reload()
    return str(page.locator("body").inner_text())


def test_an_app_is_pushed_opened_watched_stopped_and_rolled_back(walk: Walk, home: Path) -> None:
    with visitor(walk.browser, walk.base, home) as page:
        visit(page, f"{walk.base}/apps/shop")
        page.evaluate("window.loaded = true")
        walk.world.push("login", "one")
        row = page.get_by_role("row").filter(has_text="git-branch/login")
        expect(row.get_by_text("running")).to_be_visible()
        assert page.evaluate("window.loaded")
        row.get_by_role("link", name="running").click()
        page.evaluate("window.loaded = true")
        walk.world.push("login", "two")
        app = page.get_by_role("region", name="App", exact=True)
        expect(app.get_by_text("serves this push")).to_be_visible()
        expect(app).to_contain_text("Latest push")
        expect(app).to_contain_text("two")
        assert page.evaluate("window.loaded")

        with page.expect_popup() as opened:
            app.get_by_role("link", name="Open", exact=False).last.click()
        preview = opened.value
        expect(preview.locator("body")).to_contain_text('"text": "two"')
        assert preview.url == f"http://login.shop.previews.test:{walk.world.port}/"
        page.get_by_role("link", name="Logs", exact=True).click()
        page.evaluate("window.loaded = true")
        log = page.get_by_role("log", name="Log")
        expect(log).to_contain_text("starting two")
        with followed(walk.world.bare) as printed:  # on the command line at the same time
            preview.goto(f"{preview.url}asked-for-by-a-user")
            expect(log).to_contain_text("/asked-for-by-a-user")
            until(lambda: "/asked-for-by-a-user" in printed.read_text())
        assert page.evaluate("window.loaded")
        page.get_by_label("Source").select_option("build")
        page.get_by_role("button", name="Show").click()
        expect(log).to_contain_text("compiling")
        expect(log).not_to_contain_text("asked-for")

        page.get_by_role("link", name="Overview").click()
        page.get_by_role("button", name="Stop").click()
        expect(app.locator(".pill").first).to_have_text("stopped")
        until(lambda: "stopped" in reloaded(preview))
        page.get_by_role("button", name="Start").click()
        expect(app.locator(".pill").first).to_have_text("running")
        page.get_by_role("button", name="Redeploy").click()
        expect(page.get_by_text("Redeploying the app of")).to_be_visible()
        page.get_by_role("link", name="Deploys").click()
        expect(page.get_by_role("row").filter(has_text="on request").get_by_text("serving")).to_be_visible()
        page.get_by_role("link", name="Overview").click()
        expect(app.get_by_text("serves this push")).to_be_visible()
        page.get_by_role("button", name="Roll back").click()
        expect(app.get_by_text("Locked to")).to_be_visible()
        until(lambda: '"one"' in reloaded(preview))
        page.get_by_role("link", name="Deploys").click()
        expect(page.get_by_role("row").filter(has_text="one").get_by_text("serving")).to_be_visible()
        page.get_by_role("row").filter(has_text="two").filter(has_text="ready").get_by_role("button").click()
        until(lambda: '"two"' in reloaded(preview))
        page.get_by_role("button", name="Unlock").click()
        expect(app.get_by_text("Locked to")).to_have_count(0)
        preview.close()


def test_a_private_preview_is_opened_by_the_dashboards_session_from_its_own_page(walk: Walk, home: Path) -> None:
    walk.world.push("private", "secret")
    with visitor(walk.browser, walk.base, home) as page:
        preview = page.context.new_page()
        preview.goto(f"http://private.shop.previews.test:{walk.world.port}/deep?a=b")
        preview.get_by_role("link", name=re.compile("dashboard")).click()
        expect(preview.locator("body")).to_contain_text('"text": "secret"')
        assert preview.url == f"http://private.shop.previews.test:{walk.world.port}/deep?a=b"


@pytest.mark.parametrize("scripts", [True, False])
def test_a_preview_is_reached_by_logging_in_to_the_dashboard_on_the_way(walk: Walk, home: Path, scripts: bool) -> None:
    if "private" not in git(walk.world.bare, "branch", "--list", "private").stdout:
        walk.world.push("private", "secret")
    context = walk.browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(f"http://private.shop.previews.test:{walk.world.port}/deep?a=b")
    page.get_by_role("link", name="Sign in with the dashboard").click()
    page.get_by_label("One-time code or admin token").fill(code(home))
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("body")).to_contain_text('"text": "secret"')
    assert page.url == f"http://private.shop.previews.test:{walk.world.port}/deep?a=b"
    context.close()


SIZES: tuple[tuple[Literal["light", "dark"], int], ...] = (
    ("light", 1280),
    ("dark", 360),
    *((("dark", 1280), ("light", 360)) if "KV_NIGHTLY" in os.environ else ()),
)


def test_no_page_of_an_app_keeps_people_out(walk: Walk, home: Path, axe: str) -> None:
    walk.world.push("failing", "works")
    (walk.world.clone / "broken").write_text("")
    walk.world.push("failing", message="Use <a module> that there is not")
    (walk.world.clone / "broken").unlink()
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        question = "select id from timeline where branch in (?, ?) order by branch"
        failing, production = (f"/timelines/{row[0]}" for row in registry.execute(question, (b"failing", b"main")))
    found: dict[str, list[str]] = {}
    for scheme, width in SIZES:
        context = walk.browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True, reduced_motion="reduce"
        )
        page = context.new_page()
        page.goto(f"http://failing.shop.previews.test:{walk.world.port}/")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        found[f"sign-in {scheme} {width}"] = problems(page, axe)
        log_in(page, walk.base, home)
        tabs = ("", "/deploys", "/logs", "/logs?source=build")
        for path in (
            *(f"{each}{tab}" for each in (failing, production) for tab in tabs),
            "/apps/shop",
            "/apps/shop/settings",
        ):
            visit(page, walk.base + path)
            found[f"{path} {scheme} {width}"] = problems(page, axe)
        visit(page, walk.base + production)
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("Stop the production app of shop?")).to_be_visible()
        found[f"asked back {scheme} {width}"] = problems(page, axe)
        context.close()
    assert {path: wrong for path, wrong in found.items() if wrong} == {}
