"""The dashboard of an app with databases on PostgreSQL and in files: what it shows, and instances linked from it."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from connect_world import token
from dashboard_desk import Desk, at_the_desk
from dashboard_world import Answer, Visitor
from pg_server import PgServer, pg_running
from pg_standby import standby_of
from pg_world import connected_to, environment, mark, marked, pg_shop
from support import database_of, events, ok, provisioner, rows, run, until

from provisioner.engines.protocol.location import without_password

SECRET = "hush-hush"


@pytest.fixture
def world(home: Path, tmp_path: Path, pg: PgServer) -> Iterator[tuple[Path, Desk]]:
    repo = pg_shop(tmp_path / "shop", pg, "login")
    ok(repo, "instance", "add", "keys")
    ok(repo, "assign", "keys", "shop")
    with at_the_desk(home) as desk:
        yield repo, desk


def page_of(repo: Path, timeline: str, instance: str = "main") -> str:
    (row,) = [row for row in rows(repo) if (row["timeline"], row["instance"]) == (timeline, instance)]
    return f"/databases/{row['id']}"


def revealed(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer.text
    pairs = re.findall(r"<dt>([^<]+)</dt><dd><code id=[^>]+><bdi>([^<]*)</bdi>", answer.text)
    return {name: html.unescape(value) for name, value in pairs}


def test_every_page_of_an_app_with_both_tells_what_is_there(world: tuple[Path, Desk], pg: PgServer, home: Path) -> None:
    repo, desk = world
    mark(repo, "main", "here")
    ok(repo, "database", "snapshot", "create", "production", "--instance", "main")
    ok(repo, "database", "fork", "production", "login", "--instance", "main", "--yes")
    ours, theirs = page_of(repo, "git-branch/login"), page_of(repo, "git-branch/login", "keys")
    timeline = re.search(r'href="(/timelines/[^"]+)"', desk.get(ours).text)
    assert timeline is not None
    paths = ("/", "/instances/main", "/instances/keys", "/apps/shop", timeline[1], ours, f"{ours}/copies", "/activity")
    for path in paths:
        answer = desk.get(path)
        assert answer.status == 200, path
        assert pg.password not in answer.text, path
    instance = desk.get("/instances/main").text
    assert f"<dt>Server</dt><dd><code><bdi>postgresql://127.0.0.1:{pg.port}</bdi>" in instance
    assert "Server can't be used" not in instance
    assert instance.count('data-label="Last write">–<') == 2  # nobody knows
    assert "MB</td>" in instance
    database = desk.get(ours).text
    assert f"postgresql://127.0.0.1:{pg.port}/{environment(repo, 'login')['PGDATABASE']}" in database
    assert "/v2/databases" not in database
    command = re.search(r"provisioner exec --app shop[^<]+", database)
    assert command is not None
    query = html.unescape(command[0]).replace("_URL'", '_URL -Atc "select text from mark"\'')
    assert run(repo, "sh", "-c", query, check=True).stdout == "here\n"
    assert 'data-label="Connection">url<' in instance
    assert 'data-label="Connection">auto<' in desk.get("/instances/keys").text
    tabs = re.findall(r'<nav class="tabs".*?</nav>', database, re.DOTALL)[0]
    assert ("Explorer" in tabs, "Changes since fork" in tabs, "Snapshots and forks" in tabs) == (False, False, True)
    assert "Explorer" in desk.get(theirs).text
    copies = desk.get(f"{ours}/copies").text
    assert ("queued messages" in copies, "are disconnected" in copies, "new path" in copies) == (False, True, False)
    copies = desk.get(f"{theirs}/copies").text
    assert ("queued messages" in copies, "are disconnected" in copies, "new path" in copies) == (True, False, True)


def test_what_needs_keys_says_that_there_are_none(world: tuple[Path, Desk]) -> None:
    repo, desk = world
    page = page_of(repo, "production")
    for name in ("keys", "entry?key=00", "changes", "new", "edit?key=00"):
        answer = desk.get(f"{page}/{name}")
        assert (answer.status, "is a postgres database, which has no keys" in answer.text) == (404, True), name
    assert desk.get("/databases/none/keys").status == 404


def test_who_asks_is_told_what_opens_it_and_the_log_says_who(world: tuple[Path, Desk], home: Path) -> None:
    repo, desk = world
    page = page_of(repo, "git-branch/login")
    given = environment(repo, "login")
    assert given["PGPASSWORD"] not in desk.get(page).text
    told = revealed(desk.send(f"{page}/reveal"))
    names = ("DATABASE_URL", "PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGREQUIREAUTH")
    assert told == {name: given[name] for name in names}
    with psycopg.connect(told["DATABASE_URL"]) as connection:
        assert connection.execute("select current_user").fetchall() == [(told["PGUSER"],)]
    assert events(home, "token.reveal") == ["login link"]
    assert set(revealed(desk.send(f"{page_of(repo, 'git-branch/login', 'keys')}/reveal"))) == {"URL", "Token", "File"}
    reader = Visitor(desk.visitor.base)
    reader.log_in(token(repo, "--admin", "--read-only"))
    assert reader.post(f"{page}/reveal", {"csrf": reader.csrf}).status == 403


def test_data_is_put_back_from_its_pages(world: tuple[Path, Desk]) -> None:
    repo, desk = world
    page = page_of(repo, "git-branch/login")
    mark(repo, "login", "before")
    mark(repo, "main", "production")
    desk.send(f"{page}/snapshots", label="kept")
    asked = desk.send(f"{page}/fork", source="production")
    assert "Its current data becomes a snapshot" in asked.text
    desk.send(f"{page}/fork", source="production", answer="yes")
    assert marked(repo, "login") == "production"
    assert desk.press(f"{page}/copies", "Restore previous data").status == 200
    snapshot = re.findall(r'name="snapshot" value="([^"]+)"', desk.get(f"{page}/copies").text)[-1]
    desk.send(f"{page}/restore", snapshot=snapshot, answer="yes")
    assert marked(repo, "login") == "before"


# instances


def test_a_server_is_linked_tested_and_edited(home: Path, tmp_path: Path, pg: PgServer) -> None:
    with at_the_desk(home) as desk:
        linked = {"name": "main", "engine": "postgres", "sslmode": "prefer"}
        url = f"postgresql://{pg.user}@127.0.0.1:{pg.port}/postgres"
        assert desk.send("/add-instance", url=url, password=pg.password, **linked).location == "/instances/main"
        checks = desk.send("/instances/main/test").text
        assert ("main can store databases" in checks, ">failed<" in checks) == (True, False)
        form = desk.get("/instances/main/edit").text
        assert f'value="{url}?sslmode=prefer"' in form
        assert 'name="directory"' not in form
        same = {"name": "main", "url": f"{url}?sslmode=prefer"}
        refused = desk.send("/instances/main/edit", password=SECRET, **same)
        assert (refused.status, "does not accept this user and password" in refused.text) == (409, True)
        assert 'id="url-wrong"' in refused.text
        again = desk.send("/instances/main/edit", **{**same, "url": url})
        assert (again.status, "no password supplied" in again.text) == (409, True)
        assert desk.send("/instances/main/edit", sslmode="disable", **same).status == 303
        assert "sslmode=disable" in desk.get("/instances/main").text
        assert desk.send("/instances/main/edit", url=pg.url(), name="other").location == "/instances/other"
        assert "can store databases" in desk.send("/instances/other/test").text
        assert desk.send("/instances/other/edit", name="other", sslmode="tls").status == 400
        texts = [desk.get(path).text for path in ("/", "/activity", "/instances/other", "/instances/other/edit")]
        for text in (form, refused.text, again.text, *texts):
            assert pg.password not in text
            assert SECRET not in text
        assert events(home, "instance.add") == ["login link"]


WRONG = (
    (f"postgresql://admin:{SECRET}@nowhere.invalid/postgres", "no DNS server knows that host", 409),
    (f"postgresql://admin:{SECRET}@127.0.0.1:1/postgres", "nothing listens there", 409),
    (f"mysql://admin:{SECRET}@127.0.0.1/x", "not a URL of a PostgreSQL server", 400),
    (f"postgresql://u:{SECRET}", "needs an administrator's name", 400),
    (f"host=127.0.0.1 user=admin password={SECRET} port=1", "nothing listens there", 409),
    ("<img src=x>\u202e", "not a URL of a PostgreSQL server", 400),
)


def test_what_is_wrong_with_a_server_is_said_without_its_password(home: Path, tmp_path: Path) -> None:
    with at_the_desk(home) as desk:
        for url, wrong, status in WRONG:
            assert (
                wrong in provisioner(tmp_path, "instance", "add", "main", "--engine", "postgres", "--url", url).stderr
            )
            answer = desk.send("/add-instance", name="main", engine="postgres", url=url)
            if answer.status == 303:  # it takes a name server a while to know nothing
                text = desk.get("/").text
            else:
                assert (answer.status, 'id="url-wrong"' in answer.text) == (status, True), url
                text = answer.text
            assert wrong in html.unescape(text)
            assert (SECRET in text, "<img" in text, "\u202e" in text) == (False, False, False)
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in home.glob("registry.db*"))


def test_a_token_has_the_server_connect_to_nobody(world: tuple[Path, Desk], pg: PgServer) -> None:
    repo, desk = world
    other = Visitor(desk.visitor.base)
    other.log_in(token(repo, "--admin"))
    for path in ("/add-instance", "/instances/main/edit"):
        page = other.get(path).text
        assert 'name="url"' in desk.get(path).text
        assert ('name="url"' in page, 'name="password"' in page, "--url" in page) == (False, False, True)
        for place in ({"url": pg.url()}, {"password": "x"}, {"ca_cert": "/etc/passwd"}, {"sslmode": "disable"}):
            fields = {"csrf": other.csrf, "name": "more", "engine": "postgres", **place}
            refused = other.post(path, fields)
            assert (refused.status, "provisioner dashboard" in refused.text) == (400, True), place
    assert {row["instance"] for row in rows(repo)} == {"main", "keys"}


def test_without_a_url_postgresql_is_started_for_the_home(world: tuple[Path, Desk], home: Path) -> None:
    repo, desk = world
    other = Visitor(desk.visitor.base)
    other.log_in(token(repo, "--admin"))
    try:
        fields = {"csrf": other.csrf, "name": "own", "engine": "postgres"}
        desk.waited(other.post("/add-instance", fields))
        assert desk.send("/assign", instance="own", app="shop").status == 303
        page = desk.get("/instances/own").text
        assert f"<dt>Stored in</dt><dd><code><bdi>{home}/instances/own</bdi>" in page
        assert page.count(">connected<") == 2
        told = revealed(desk.send(f"{page_of(repo, 'git-branch/login', 'own')}/reveal"))
        with psycopg.connect(told["DATABASE_URL"]) as connection:
            assert connection.execute("select 1").fetchall() == [(1,)]
    finally:
        provisioner(repo, "instance", "stop", "own")
        elsewhere = home / "instances/own/elsewhere"
        if elsewhere.exists():
            shutil.rmtree(elsewhere.read_text().strip(), ignore_errors=True)


def test_a_server_that_is_followed_or_away_is_told_of_and_no_page_fails(home: Path, tmp_path: Path) -> None:
    with pg_running() as server:
        repo = pg_shop(tmp_path / "shop", server, "login")
        with at_the_desk(home) as desk:
            page = page_of(repo, "git-branch/login")
            with standby_of(server, "node2"):
                until(lambda: ">node2<" in desk.get("/instances/main").text)
                assert "Acknowledged writes are stored on</dt><dd>at least " in desk.get("/instances/main").text
            with connected_to(repo, "login"):
                server.stop()
            for path in ("/", "/instances/main", "/apps/shop", page, f"{page}/copies", "/activity"):
                assert desk.get(path).status == 200, path
            # a session that is kept open is told first that it has ended
            until(lambda: "nothing listens there" in desk.get("/instances/main").text)
            away = desk.get("/instances/main").text
            assert 'data-label="Size" class="number">-<' in away
            assert "Server can't be used" in away
            wrong = desk.send("/instances/main/test").text
            assert "main cannot store databases" in wrong
            assert "nothing listens there" in wrong
            failed = desk.send(f"{page}/snapshots", label="x")
            assert "nothing listens there" in failed.text
            server.start()
            until(lambda: 'class="number">-<' not in desk.get("/instances/main").text)
            assert database_of(repo, "git-branch/login")["status"] == "connected"


def test_a_url_is_shown_without_what_opens_the_server() -> None:
    shown = {
        "postgresql://u:p@h:5432/db": "postgresql://u@h:5432/db",
        "postgresql://u:p@a@h/db?sslmode=require": "postgresql://u@h/db?sslmode=require",
        "postgres://u:p/x#y@h": "postgres://u@h",
        "postgresql://u:p://q@h/db": "postgresql://u@h/db",
        "u:p://q@h": "u@h",
        "postgresql://u@h/db?password=secret": "postgresql://u@h/db",
        "postgresql://[::1]:5432": "postgresql://[::1]:5432",
        "host=h user=u": "host=h user=u",
        "host=h PASSWORD=x": "",
        "postgresql://u:secret": "",
    }
    assert {url: without_password(url) for url in shown} == shown
