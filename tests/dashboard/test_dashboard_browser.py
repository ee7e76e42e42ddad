"""The dashboard in a real Chromium: what appears without a reload, what a screen reader finds, what a phone shows."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import pytest
from chromium import INSIDE, launched, log_in, problems, visit, visitor
from connect_world import Server, access, deno, serving, token
from dashboard_world import Visitor, code
from playwright.sync_api import Browser, BrowserContext, Page, expect
from support import database_of, files, git, ok, provisioner, shop

from provisioner.kv import KvU64, open_kv
from provisioner.kv.codec.key import encode


@dataclass(frozen=True, slots=True)
class World:
    server: Server
    repo: Path
    browser: Browser


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[World]:
    repo = shop(shared_home.parent / "shop", "login", "gone")
    git(repo, "branch", "-D", "gone")
    ok(repo, "reconcile")
    with open_kv(str(files(repo)["main"])) as kv:
        kv.set(("users", 1), {"name": "Ada"})
        kv.set(("hits",), KvU64(5))
        kv.set(("blob",), b"\x00\x01")
    ok(repo, "assign", "default", "--new-branch", "fork:production")
    git(repo, "branch", "forked")
    ok(repo, "reconcile")
    with open_kv(str(files(repo)["forked"])) as kv:
        kv.set(("users", 2), {"name": "Grace"})
    ok(repo, "var", "set", "API=https://example.com")
    ok(repo, "var", "set", "--secret", "KEY=hidden")
    ok(repo, "app", "set", "--pre-deploy", "echo migrated")
    ok(repo, "app", "set", "--no-pre-deploy")
    ok(repo, "preview", "create", "HEAD")
    ok(repo, "database", "snapshot", "create", "login")
    with serving(shared_home) as server, launched() as browser:
        yield World(server, repo, browser)


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


@pytest.fixture
def page(world: World, home: Path) -> Iterator[Page]:
    with visitor(world.browser, world.server.base, home) as page:
        yield page


def _of(world: World, timeline: str) -> str:
    return f"{world.server.base}/databases/{database_of(world.repo, timeline)['id']}"


def test_a_link_logs_in_and_leaves_no_trace_in_the_address(page: Page, world: World) -> None:
    expect(page.get_by_text("Logged in.")).to_be_visible()
    page.go_back()
    assert "ptl_" not in page.url
    assert all("ptl_" not in str(entry) for entry in page.evaluate("[location.href, history.length]"))


def test_a_token_logs_in_by_the_form(world: World, home: Path) -> None:
    context = world.browser.new_context(java_script_enabled=False)
    page = context.new_page()
    visit(page, f"{world.server.base}/apps/shop")
    page.get_by_label("One-time code or admin token").fill(token(world.repo, "--admin", "--read-only"))
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="shop", level=1)).to_be_visible()
    expect(page.get_by_text("read only", exact=True)).to_be_visible()
    visit(page, _of(world, "production"))
    expect(page.get_by_role("button", name="Reveal")).to_have_count(0)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    context.close()


def test_a_branch_appears_and_goes_without_a_reload(page: Page, world: World) -> None:
    visit(page, f"{world.server.base}/apps/shop")
    page.evaluate("window.loaded = true")
    row = page.get_by_role("row").filter(has_text="git-branch/appears")
    expect(row).to_have_count(0)
    git(world.repo, "branch", "appears")
    ok(world.repo, "reconcile")
    expect(row).to_contain_text("connected")
    git(world.repo, "branch", "-D", "appears")
    ok(world.repo, "reconcile")
    expect(row).to_contain_text("archived")
    assert page.evaluate("window.loaded")


def test_an_error_appears_and_goes_without_a_reload(page: Page, world: World) -> None:
    git(world.repo, "branch", "breaks")
    ok(world.repo, "reconcile")
    file = files(world.repo)["breaks"]
    content = file.read_bytes()
    visit(page, _of(world, "git-branch/breaks"))
    status = page.locator("dd .pill").first
    expect(status).to_have_text("connected")
    file.write_bytes(b"this is no database" * 100)
    assert provisioner(world.repo, "reconcile").returncode == 1
    expect(status).to_have_text("error")
    expect(page.get_by_role("heading", name="Error")).to_be_visible()
    file.write_bytes(content)
    ok(world.repo, "database", "fix", "--all")
    expect(status).to_have_text("connected")


def test_what_a_real_deno_writes_appears_without_a_reload(page: Page, world: World, tmp_path: Path) -> None:
    visit(page, f"{_of(world, 'git-branch/login')}/keys")
    expect(page.get_by_text("This database is empty")).to_be_visible()
    script = tmp_path / "write.ts"
    script.write_text(
        "const kv = await Deno.openKv(Deno.args[0]); await kv.set(['from deno', 1], {a: 1n}); kv.close();"
    )
    login = access(world.repo, "login")
    deno(script, login.url, add=login.variables)
    expect(page.get_by_text('"from deno"')).to_be_visible()
    deno(script, str(files(world.repo)["login"]))  # by the file, beside the server
    page.get_by_role("link", name="from deno").click()
    page.get_by_role("link", name="bigint").click()
    expect(page.get_by_text("object", exact=True)).to_be_visible()
    with open_kv(str(files(world.repo)["login"])) as kv:
        kv.set(("from deno", 1), "changed meanwhile")
    expect(page.get_by_text('"changed meanwhile"')).to_be_visible()


def test_what_a_real_deno_writes_while_it_is_edited_is_told_of_and_not_overwritten(
    page: Page, world: World, tmp_path: Path
) -> None:
    script = tmp_path / "count.ts"
    script.write_text(
        "const kv = await Deno.openKv(Deno.args[0]);await kv.set(['live', 'count'], Number(Deno.args[1])); kv.close();"
    )
    login = access(world.repo, "login")
    explorer = f"{_of(world, 'git-branch/login')}/keys"
    visit(page, explorer)
    other = page.context.new_page()
    visit(other, f'{explorer}?as=list&prefix=["live"]')
    deno(script, login.url, "1", add=login.variables)
    expect(other.get_by_text("1", exact=True)).to_be_visible()
    page.get_by_role("link", name='"live"').click()
    page.get_by_role("link", name="1", exact=True).click()
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Value", exact=True).fill("100")
    deno(script, login.url, "2", add=login.variables)
    expect(page.get_by_role("alert")).to_contain_text("This key changed while you were editing")
    expect(page.get_by_label("Current value")).to_have_text("2")
    expect(page.get_by_label("Value", exact=True)).to_have_value("100")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="This key changed while you were editing")).to_be_visible()
    deno(script, login.url, "3", add=login.variables)
    expect(page.get_by_text("while you were editing")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="This key changed while you were editing")).to_be_visible()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text('Saved ["live", "count"]')).to_be_visible()
    expect(other.get_by_text("100", exact=True)).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(other.get_by_text("3", exact=True)).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(other.get_by_text("No keys here")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(other.get_by_text("3", exact=True)).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False])
def test_a_key_is_made_changed_and_deleted_by_the_keyboard(world: World, home: Path, scripts: bool) -> None:
    context = world.browser.new_context(java_script_enabled=scripts, viewport={"width": 360, "height": 740})
    page = context.new_page()
    visit(page, f"{world.server.base}/login")
    page.get_by_label("One-time code or admin token").fill(code(home))
    page.keyboard.press("Enter")
    page.wait_for_url(INSIDE)
    visit(page, f'{_of(world, "git-branch/login")}/keys?prefix=["by hand"]')
    page.get_by_role("link", name="New key").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Key", exact=True).fill(f'["by hand", {int(scripts)}]')
    page.keyboard.press("Tab")
    page.keyboard.type('{"$u64": "7"}')
    for _ in range(4):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("KvU64", exact=True)).to_be_visible()
    page.get_by_role("button", name="Delete").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Undo").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("is what it was before")).to_be_visible()
    context.close()


def test_what_opens_a_database_can_be_copied(world: World, home: Path) -> None:
    context = world.browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    log_in(page, world.server.base, home)
    visit(page, _of(world, "production"))
    page.get_by_role("button", name="Reveal").click()
    page.get_by_role("button", name="Copy the token").click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    told = json.loads(ok(world.repo, "env", "--branch", "main", "--format", "json"))
    assert page.evaluate("navigator.clipboard.readText()") == told["DENO_KV_ACCESS_TOKEN"]
    context.close()


def test_everything_can_be_reached_by_the_keyboard(page: Page, world: World) -> None:
    visit(page, f"{world.server.base}/")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        if reached[-1] == "shop":
            break
    assert reached[:5] == ["Skip to content", "provisioner", "Databases", "Activity", "Log out"]
    page.keyboard.press("Enter")
    page.wait_for_url("**/apps/shop")


def test_the_focus_stays_where_it_is_when_a_page_changes(page: Page, world: World) -> None:
    visit(page, f"{world.server.base}/apps/shop")
    link = page.get_by_role("link", name="git-branch/login")
    link.focus()
    git(world.repo, "branch", "beside")
    ok(world.repo, "reconcile")
    expect(page.get_by_role("link", name="git-branch/beside")).to_be_visible()
    expect(link).to_be_focused()


def test_who_logs_out_in_one_window_is_out_in_the_other(page: Page, world: World) -> None:
    other = page.context.new_page()
    visit(other, f"{world.server.base}/apps/shop")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    git(world.repo, "branch", "after")
    ok(world.repo, "reconcile")
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()


SIZES: tuple[tuple[Literal["light", "dark"], int], ...] = (
    ("light", 1280),
    ("dark", 360),
    *((("dark", 1280), ("light", 360)) if "KV_NIGHTLY" in os.environ else ()),
)


@pytest.mark.parametrize(("scheme", "width"), SIZES)
def test_no_page_keeps_anybody_out(
    world: World, home: Path, axe: str, scheme: Literal["light", "dark"], width: int
) -> None:
    context = world.browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(f"{world.server.base}/login")
    found = {"/login": problems(page, axe)}
    for path in _pages(world, page, home):
        visit(page, world.server.base + path)
        found[path] = problems(page, axe)
    for state in chain(_changing(world, page), _of_instances(world, page)):
        found[state] = problems(page, axe)
    context.close()
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


def _of_instances(world: World, page: Page) -> Iterator[str]:
    """What is asked, and answered, before something is done with an instance."""
    instance = f"{world.server.base}/instances/default"
    visit(page, f"{world.server.base}/add-instance")
    page.get_by_label("Name").fill("default")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("instance 'default' already exists")).to_be_visible()
    yield "a name that is taken"
    visit(page, instance)
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_role("heading", name="default can store databases")).to_be_visible()
    yield "a test"
    visit(page, instance)
    page.get_by_role("button", name="Unassign").click()
    expect(page.get_by_text("Its data is kept")).to_be_visible()
    yield "taking an instance away"
    visit(page, instance)
    page.get_by_role("button", name="Delete").click()
    page.get_by_label("Type default").fill("something else")
    page.get_by_role("button", name="Delete default").click()
    expect(page.get_by_text("Nothing was changed")).to_be_visible()
    yield "deleting an instance"


def _changing(world: World, page: Page) -> Iterator[str]:
    """Pages that are answers to a form, one after the other."""
    file = str(files(world.repo)["main"])
    with open_kv(file) as kv:
        kv.set(("users", 3), {"name": "Grace", "n": list(range(50))})
        visit(page, f"{_of(world, 'production')}/edit?key={encode(('users', 3)).hex()}")
        page.get_by_label("Value", exact=True).fill('{"name": ')
        page.get_by_label("Expires").fill("soon")
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_text("is not a duration")).to_be_visible()
        yield "what is wrong"
        page.get_by_label("Expires").fill("7d")
        kv.set(("users", 3), {"name": "Katherine"})
        expect(page.get_by_text("while you were editing")).to_be_visible()
        yield "changed while it was open"
        page.get_by_label("Value", exact=True).fill('{"name": "Ada"}')
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("heading", name="Current value")).to_be_visible()
        yield "changed meanwhile"
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("button", name="Undo")).to_be_visible()
        yield "saved"
        kv.set(("users", 3), 1)
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_text("nothing was undone")).to_be_visible()
        yield "not taken back"
        visit(page, f"{_of(world, 'production')}/entry?key={encode(('users', 3)).hex()}")
        page.get_by_role("button", name="Delete").click()
        expect(page.get_by_text("Deleted [")).to_be_visible()
        yield "deleted"
    visit(page, f"{_of(world, 'git-branch/login')}/copies")
    page.get_by_label("Source").fill("none")
    page.get_by_role("button", name="Fork", exact=True).click()
    expect(page.get_by_label("Source")).to_have_value("none")
    yield "what cannot be copied"
    page.get_by_label("Source").fill("production")
    page.get_by_role("button", name="Fork", exact=True).click()
    yield "asked back"
    visit(page, f"{world.server.base}/apps/shop/variables")
    for context in ("production", "development: all other timelines"):
        page.get_by_label(context, exact=True).uncheck()
    page.get_by_label("Name").fill("X")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_text("Choose at least one")).to_be_visible()
    yield "set for nobody"


def _pages(world: World, page: Page, home: Path) -> list[str]:
    log_in(page, world.server.base, home)
    main, forked, gone = (
        f"/databases/{database_of(world.repo, timeline)['id']}"
        for timeline in ("production", "git-branch/forked", "git-branch/gone")
    )
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        query = "select timeline.id, run.id from timeline join run on timeline_id = timeline.id where branch = ?"
        timeline, run = registry.execute(query, (b"login",)).fetchone()
    login = f"/databases/{database_of(world.repo, 'git-branch/login')['id']}"
    return [
        *(f"/timelines/{timeline}", f"/timelines/{timeline}/runs/{run}", f"{login}/copies", f"{main}/copies"),
        *(f"/apps/shop/{tab}" for tab in ("previews", "variables", "variables?way=lines", "settings")),
        *("/apps/shop/variables?name=API&context=production", "/apps/shop/variables?way=secret", f"{gone}/copies"),
        *("/", "/instances/default", "/apps/shop", "/apps/none", "/activity", main, gone, f"{gone}/keys"),
        *("/add-instance", "/instances/default/edit", "/assign", "/assign?instance=default&app=shop&from=app"),
        *(f"{main}/keys", f'{main}/keys?prefix=["users"]', f"{main}/keys?as=list", f"{main}/keys?prefix=[1]"),
        *(f"{main}/entry?key={encode(key).hex()}" for key in (("users", 1), ("blob",), ("none",))),
        *(f"{main}/new?prefix=[1]", f"{main}/edit?key={encode(('users', 1)).hex()}", f"{forked}/changes"),
    ]


def test_every_page_is_small(world: World, home: Path) -> None:
    reader = Visitor(world.server.base)
    reader.log_in(code(home))
    context: BrowserContext = world.browser.new_context()
    for path in _pages(world, context.new_page(), home):
        assert len(reader.get(path).text) < 100_000, path
    context.close()
