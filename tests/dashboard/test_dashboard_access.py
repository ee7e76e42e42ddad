"""Who gets into the dashboard, what they may, and what other sites' pages can do: nothing."""

from __future__ import annotations

import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import urllib3
from connect_world import Server, serving, token
from dashboard_world import Visitor, code, visited
from support import events, git, ok, provisioner, rows, shop, until

from provisioner.dashboard.routes import routes
from provisioner.dashboard.web import login_codes
from provisioner.dashboard.web.form_body import STRANGER_BYTES
from provisioner.system.home import Home

PAGES = ("/", "/activity", "/instances/default", "/apps/shop")
_FOREIGN = r"""<script(?![^>]*src="/static/)|<style|\sstyle=|\son\w+=|(src|href|action)=["']?(https?:)?//"""
LOGIN, LOGOUT = "/login", "/logout"
POSTS = sorted(route.path for route in routes(cast(Any, None)) if "POST" in (route.methods or ()))
CHANGES = [path for path in POSTS if path != LOGIN]


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[tuple[Server, Path, str]]:
    """A server, a repository, and the id of a database."""
    repo = shop(shared_home.parent / "shop", "login")
    with serving(shared_home) as server:
        yield server, repo, rows(repo)[0]["id"]


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


def filled(path: str, database: str) -> str:
    """An address of a route: of what there is in this world, as far as there is something."""
    for pattern, what in (("/apps/{slug}", "/apps/shop"), ("/instances/{slug}", "/instances/default")):
        path = path.replace(pattern, what)
    return re.sub(r"{[^}]+}", "x", path.replace("{database_id}", database))


def logged_in(server: Server, home: Path) -> Visitor:
    visitor = Visitor(server.base)
    assert visitor.log_in(code(home)).status == 303
    return visitor


# logging in


def test_nobody_sees_a_page_without_logging_in(world: tuple[Server, Path, str]) -> None:
    server, _, database = world
    stranger = Visitor(server.base)
    forms = [f"/databases/{database}/{page}" for page in ("new", "edit?key=026100")]
    for page in (*PAGES, f"/databases/{database}", f"/databases/{database}/keys", "/apps/none", *forms):
        answer = stranger.get(page)
        assert (answer.status, answer.location.partition("?")[0]) == (303, "/login"), page
        assert "shop" not in answer.text
    for path in CHANGES:
        assert stranger.post(filled(path, database), {"answer": "yes"}).status == 401, path
    assert stranger.get("/events").status == 401
    assert stranger.get(f"/databases/{database}/events").status == 401


def test_a_link_logs_in_once_and_leads_back_to_the_page_that_was_asked_for(
    world: tuple[Server, Path, str], home: Path
) -> None:
    server, _, _ = world
    secret = code(home)
    one, other = Visitor(server.base), Visitor(server.base)
    answer = one.post("/login", {"secret": secret, "next": "/apps/shop?q=a"})
    assert (answer.status, answer.location) == (303, "/apps/shop?q=a")
    assert other.post("/login", {"secret": secret}).status == 401
    assert one.get("/apps/shop").status == 200
    assert secret not in server.log.read_text()


@pytest.mark.parametrize(
    "following", ["//evil.example", "https://evil.example", "/\\evil.example", "\n/", "javascript:1"]
)
def test_logging_in_leads_to_no_other_site(world: tuple[Server, Path, str], home: Path, following: str) -> None:
    server, _, _ = world
    answer = Visitor(server.base).post("/login", {"secret": code(home), "next": following})
    assert (answer.status, answer.location) == (303, "/")


def test_the_cookie_is_kept_from_scripts_and_from_other_sites(world: tuple[Server, Path, str], home: Path) -> None:
    server, _, _ = world
    cookie = Visitor(server.base).post("/login", {"secret": code(home)}).headers["set-cookie"]
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    (path,) = parts - {"httponly", "samesite=strict"}
    assert re.fullmatch(r"path=/~[a-z0-9_-]{22}", path)


def test_over_tls_the_cookie_is_for_tls_only(home: Path, tmp_path: Path, world: tuple[Server, Path, str]) -> None:
    other = tmp_path / "other"
    with serving(other, "--public-url", "https://kv.example.com") as server:
        secret = login_codes.make(Home(str(other)), 2**42)
        answer = Visitor(server.base).post("/login", {"secret": secret}, host="kv.example.com")
        assert answer.status == 303
        assert answer.headers["set-cookie"].startswith("__Secure-provisioner_")
        assert "; Secure" in answer.headers["set-cookie"]


def test_an_admin_token_logs_in_and_its_session_ends_with_it(world: tuple[Server, Path, str]) -> None:
    server, repo, _ = world
    made = json.loads(ok(repo, "token", "create", "--admin", "--json"))
    visitor = Visitor(server.base)
    assert visitor.log_in(made["token"]).status == 303
    assert visitor.get("/").status == 200
    ok(repo, "token", "revoke", made["id"])
    assert visitor.get("/").status == 303


def test_a_token_for_less_than_everything_does_not_log_in(world: tuple[Server, Path, str]) -> None:
    server, repo, _ = world
    answer = Visitor(server.base).log_in(token(repo, "--app", "shop"))
    assert answer.status == 401
    assert "not the dashboard" in answer.text


def test_who_guesses_is_slowed_down_and_who_knows_is_not(world: tuple[Server, Path, str], home: Path) -> None:
    server, _, _ = world
    guesser = Visitor(server.base, source="127.0.0.8")
    answers = [guesser.log_in(f"ptl_{number}").status for number in range(20)]
    assert answers[:10] == [401] * 10
    assert answers[13:] == [429] * 7
    assert guesser.log_in(code(home)).status == 303


def test_a_code_is_good_for_ten_minutes_and_others_are_swept_away(tmp_path: Path) -> None:
    place = Home(str(tmp_path / "other"))
    place.create()
    late, good = login_codes.make(place, 0), login_codes.make(place, 1)
    assert not redeemed(place, late, login_codes.LIFETIME_MS)
    assert redeemed(place, good, login_codes.LIFETIME_MS)
    assert not redeemed(place, good, 2)
    login_codes.make(place, 0)
    login_codes.make(place, login_codes.LIFETIME_MS)
    assert len(os.listdir(place.logins)) == 1
    for strange in ("", "ptl_", "ptl_../../server", "ptl_\udc80", "x" * 10_000):
        assert not redeemed(place, strange, 0)


def redeemed(place: Home, secret: str, now: int) -> bool:
    with login_codes.redeemed(place, secret, now) as good:
        return good


def test_a_code_that_nobody_could_be_logged_in_with_is_good_for_another_try(
    world: tuple[Server, Path, str], home: Path
) -> None:
    server, *_ = world
    visitor, link = Visitor(server.base), code(home)
    with closing(sqlite3.connect(home / "registry.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        assert visitor.log_in(link).status == 503
    assert visitor.log_in(link).status == 303
    assert Visitor(server.base).log_in(link).status == 401


def test_logging_out_ends_the_session_for_the_cookie_too(world: tuple[Server, Path, str], home: Path) -> None:
    server, _, _ = world
    visitor = logged_in(server, home)
    kept = dict(visitor.cookies)
    assert visitor.post("/logout", {"csrf": visitor.csrf}).status == 303
    visitor.cookies = kept
    assert visitor.get("/").status == 303


# what may be changed, and from where


def known(home: Path) -> list[object]:
    """All that the registry knows."""
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        return list(registry.iterdump())


def test_what_changes_something_is_not_done_by_following_a_link(world: tuple[Server, Path, str], home: Path) -> None:
    server, _, database = world
    pages = {route.path for route in routes(cast(Any, None)) if "GET" in (route.methods or ())}
    visitor = logged_in(server, home)
    assert len(CHANGES) > len(pages & set(CHANGES))
    before = known(home)
    for path in CHANGES:
        answer = visitor.get(filled(path, database) + "?answer=yes&csrf=" + visitor.csrf)
        assert answer.status < 500 if path in pages else answer.status in (404, 405), path
    assert known(home) == before


def test_a_change_wants_the_form_of_this_session(world: tuple[Server, Path, str], home: Path) -> None:
    server, _, database = world
    visitor, other = logged_in(server, home), logged_in(server, home)
    for path in CHANGES:
        for csrf in ("", "x", other.csrf, "é"):
            fields = {"csrf": csrf, "answer": "yes"}
            assert visitor.post(filled(path, database), fields).status == 403, (path, csrf)
    assert visitor.get("/").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "", "origin": "https://evil.example"},
        {"sec-fetch-site": "", "origin": "null"},
        {"sec-fetch-site": "", "origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
        {"sec-fetch-site": ""},
    ],
    ids=str,
)
def test_a_change_from_another_sites_page_is_refused(
    world: tuple[Server, Path, str], home: Path, headers: dict[str, str]
) -> None:
    server, _, database = world
    visitor = logged_in(server, home)
    for path in POSTS:
        answer = visitor.post(filled(path, database), {"csrf": visitor.csrf, "answer": "yes"}, **headers)
        assert answer.status == 403, path
    assert visitor.get("/").status == 200


def test_a_browser_that_says_only_its_origin_may_change(world: tuple[Server, Path, str], home: Path) -> None:
    server, _, database = world
    visitor = logged_in(server, home)
    headers = {"sec-fetch-site": "", "origin": server.base}
    assert visitor.post(f"/databases/{database}/reveal", {"csrf": visitor.csrf}, **headers).status == 200


def test_who_may_only_read_changes_nothing_and_is_told_no_secret(world: tuple[Server, Path, str], home: Path) -> None:
    server, repo, database = world
    reader = Visitor(server.base)
    assert reader.log_in(token(repo, "--admin", "--read-only")).status == 303
    for page in (*PAGES, f"/databases/{database}", f"/databases/{database}/keys"):
        answer = reader.get(page)
        assert answer.status == 200, page
        assert "ptd_" not in answer.text
    before = known(home)
    for path in CHANGES:
        if path != LOGOUT:
            answer = reader.post(filled(path, database), {"csrf": reader.csrf, "answer": "yes"})
            assert (answer.status, "ptd_" in answer.text, "read-only" in answer.text) == (403, False, True), path
    assert known(home) == before
    assert reader.post(LOGOUT, {"csrf": reader.csrf}).status == 303


def test_what_opens_a_database_is_shown_on_request_and_noted_with_who_asked(
    world: tuple[Server, Path, str], home: Path
) -> None:
    server, repo, database = world
    visitor = logged_in(server, home)
    before = len(events(home, "token.reveal"))
    assert "ptd_" not in visitor.get(f"/databases/{database}").text
    answer = visitor.post(f"/databases/{database}/reveal", {"csrf": visitor.csrf})
    told = json.loads(ok(repo, "env", "--branch", "main", "--format", "json"))
    shown = {told["DENO_KV_ACCESS_TOKEN"], told["PROVISIONER_KV_URL"]}
    assert answer.status == 200
    assert database in told["PROVISIONER_KV_URL"]
    assert all(each in answer.text for each in shown)
    assert events(home, "token.reveal")[before:] == ["login link"]
    assert told["DENO_KV_ACCESS_TOKEN"] not in server.log.read_text()


# names, headers, paths


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "a@127.0.0.1", ""]
)
def test_a_name_that_is_not_ours_is_refused(world: tuple[Server, Path, str], home: Path, host: str) -> None:
    server, _, _ = world
    visitor = logged_in(server, home)
    assert visitor.get("/", host=host or "-").status == 421
    assert visitor.get("/", host="localhost:1").status == 200
    assert visitor.get("/", host="[::1]").status == 200


def test_every_answer_has_the_headers(world: tuple[Server, Path, str], home: Path) -> None:
    server, _, database = world
    visitor = logged_in(server, home)
    paths = (*PAGES, f"/databases/{database}", "/none", "/apps/none", "/login", "/static/dashboard.css", "/static/none")
    for path in paths:
        headers = visitor.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';"), path
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == ("no-cache" if path == "/static/dashboard.css" else "no-store"), path


def test_nothing_of_another_host_and_no_script_or_style_inside_a_page(
    world: tuple[Server, Path, str], home: Path
) -> None:
    server, _, database = world
    visitor = logged_in(server, home)
    for path in (
        *PAGES,
        f"/databases/{database}",
        f"/databases/{database}/keys",
        f"/databases/{database}/new",
        "/login",
    ):
        text = visitor.get(path).text
        assert not re.search(
            r"""<script(?![^>]*src="/static/)|<style|\sstyle=|\son\w+=|(src|href|action)=["']?(https?:)?//""", text
        ), path


@pytest.mark.parametrize(
    "strange", ["..%2f..%2fserver", "%2e%2e/%2e%2e/etc/passwd", "a%00b", "%ff%fe", "'\"<b>", "%E2%80%AE"]
)
def test_a_path_leads_nowhere_but_to_what_there_is(world: tuple[Server, Path, str], home: Path, strange: str) -> None:
    server, _, _ = world
    visitor = logged_in(server, home)
    for path in ("/static/", "/apps/", "/instances/", "/databases/", "/"):
        answer = visitor.get(path + strange)
        assert answer.status == 404, path
        assert "<b>" not in answer.text
        assert "\u202e" not in answer.text
    for query in ("skip", "q", "before", "prefix", "cursor", "start", "end", "key"):
        for page in PAGES:
            assert visitor.get(f"{page}?{query}={strange}").status == 200, (page, query)


def test_a_body_that_is_too_large_is_refused(world: tuple[Server, Path, str], home: Path) -> None:
    server, _, database = world
    visitor, stranger = logged_in(server, home), Visitor(server.base)
    reveal = f"/databases/{database}/reveal"
    assert visitor.post(reveal, {"csrf": visitor.csrf, "x": "x" * 1_100_000}).status == 413
    assert visitor.post(reveal, {"csrf": visitor.csrf, "x": "x" * 1_000_000}).status == 200
    stranger.root = visitor.root
    for path in ("/login", reveal):
        assert stranger.post(path, {"secret": "x" * STRANGER_BYTES}).status == 413
        assert stranger.post(path, {"secret": "x" * (STRANGER_BYTES - 100)}).status == 401
    chunked = {"sec-fetch-site": "same-origin", "transfer-encoding": "chunked"}
    answer = urllib3.request("POST", server.base + "/login", body=iter([b"secret=x"]), headers=chunked)
    assert (answer.status, b"Content-Length" in answer.data) == (411, True)
    assert visitor.post("/login", {str(number): "" for number in range(1000)}).status == 401
    assert urllib3.request("PUT", server.base + "/", headers={"sec-fetch-site": "same-origin"}).status == 405
    assert visitor.post("/logout", {"text": "x" * 900_000}).status != 413


# the command line


def test_without_the_dashboard_there_are_no_pages(tmp_path: Path) -> None:
    with serving(tmp_path / "none", "--no-dashboard") as server:
        assert Visitor(server.base).get("/").status == 404
        assert Visitor(server.base).get("/login").status == 404


def test_the_command_wants_a_server(tmp_path: Path) -> None:
    refused = provisioner(tmp_path, "dashboard", "--print", add={"PROVISIONER_HOME": str(tmp_path / "none")})
    assert refused.returncode == 3
    assert "provisioner serve" in refused.stderr


def test_on_a_terminal_the_server_prints_a_link_that_logs_in_and_in_a_log_none(
    tmp_path: Path, world: tuple[Server, Path, str]
) -> None:
    server, _, _ = world
    assert "ptl_" not in server.log.read_text()
    ours, theirs = pty.openpty()
    home = {**os.environ, "PROVISIONER_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "provisioner", "serve", "--port", "0"]
    process = subprocess.Popen(command, env=home, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    try:
        os.close(theirs)
        text = b""
        while b"within 10 minutes" not in text:
            text += os.read(ours, 4096)
        link = re.search(r"(http://[0-9.:]+)/login#(ptl_\S+)", text.decode())
        assert link is not None
        assert Visitor(link[1]).log_in(link[2]).status == 303
    finally:
        process.terminate()
        process.wait(60)
        os.close(ours)


def test_streams_end_when_the_server_does_and_it_waits_for_nobody(tmp_path: Path) -> None:
    home = tmp_path / "streams"
    with serving(home) as server:
        visitor = Visitor(server.base)
        assert visitor.log_in(login_codes.make(Home(str(home)), 2**42)).status == 303
        cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
        stream = urllib3.request("GET", visitor.site + "/events", headers={"cookie": cookie}, preload_content=False)
        assert stream.status == 200
        assert stream.read(5) == b"retry"
        assert server.stop() == 0
        assert stream.read().endswith(b"\n\n")


def test_a_new_branch_is_told_of_in_the_stream(world: tuple[Server, Path, str], home: Path) -> None:
    server, repo, _ = world
    visitor = logged_in(server, home)
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    stream = urllib3.request("GET", visitor.site + "/events", headers={"cookie": cookie}, preload_content=False)
    text = b""
    git(repo, "branch", "streamed")
    ok(repo, "reconcile")

    def told() -> bool:
        nonlocal text
        text += stream.read1(100)
        return b"event: changed" in text

    until(told)
    stream.close()
    assert "streamed" in visitor.get("/apps/shop").text


def test_an_empty_home_says_what_to_do_first(tmp_path: Path) -> None:
    with visited(tmp_path / "empty") as (_, visitor):
        assert "provisioner init" in visitor.get("/").text
        assert visitor.get("/activity").status == 200
