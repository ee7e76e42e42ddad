"""How a session of the dashboard begins without a secret in any process's arguments, and each way in which it ends."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from chromium import INSIDE, launched
from connect_world import Server, serving
from dashboard_world import Visitor, code
from paths import DOCS
from playwright.sync_api import expect
from support import events, ok, provisioner, shop

from provisioner.dashboard.web import login_codes, session_files
from provisioner.dashboard.web.session_files import IDLE_MS, LONGEST_MS
from provisioner.dashboard.web.sessions import LoginSession, LoginSessions
from provisioner.system import secret_key
from provisioner.system.home import Home

World = tuple[Server, Path]


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[World]:
    repo = shop(shared_home.parent / "shop", "login")
    with serving(shared_home) as server:
        yield server, repo


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


def logged_in(server: Server, secret: str) -> Visitor:
    visitor = Visitor(server.base)
    assert visitor.log_in(secret).status == 303
    return visitor


def sessions(repo: Path) -> list[dict[str, Any]]:
    return [each for each in json.loads(ok(repo, "token", "list", "--json")) if each["scope"] == "session"]


# beginning


def browser_that_records(path: Path) -> dict[str, str]:
    """An environment whose browser writes its arguments into `path`."""
    script = path.with_name("browser")
    script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{path}\n')
    script.chmod(0o755)
    return {"BROWSER": f"{script} %s"}


def test_a_browser_is_led_in_by_a_private_file_and_no_argument_tells_the_code(
    world: World, home: Path, tmp_path: Path
) -> None:
    server, repo = world
    arguments = tmp_path / "arguments"
    said = ok(repo, "dashboard", add=browser_that_records(arguments))
    given = arguments.read_text().strip()
    assert (said, "ptl_" in given, given.startswith("file:///")) == ("", False, True)
    page = Path(given.removeprefix("file://"))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert stat.S_IMODE(page.parent.stat().st_mode) == 0o700
    found = re.search(r"ptl_[\w-]+", page.read_text())
    assert found is not None
    with launched() as browser:
        tab = browser.new_context().new_page()
        tab.goto(given)
        tab.wait_for_url(INSIDE)
        expect(tab.get_by_text("Logged in.")).to_be_visible()
        assert tab.evaluate("history.length") <= 3
    assert not page.exists()
    assert Visitor(server.base).log_in(found[0]).status == 401


def test_without_a_browser_the_link_is_printed(world: World, tmp_path: Path) -> None:
    server, repo = world
    no_browser = {"BROWSER": "false", "PATH": os.path.dirname(sys.executable), "DISPLAY": ""}
    said = ok(repo, "dashboard", add=no_browser).strip()
    assert re.fullmatch(rf"{server.base}/login#ptl_[\w-]+", said)
    logged_in(server, said.partition("#")[2])


def test_curl_logs_in_as_the_document_says(world: World, tmp_path: Path) -> None:
    server, repo = world
    (recipe,) = re.findall(r"```sh\n(home=.*?)```", (DOCS / "dashboard.md").read_text(), re.DOTALL)
    token = ok(repo, "token", "create", "--admin", "--read-only").strip()
    recipe = recipe.replace("http://127.0.0.1:4512", server.base)
    done = subprocess.run(
        ["sh", "-euc", recipe], cwd=tmp_path, env={**os.environ, "TOKEN": token}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "<h1>Databases</h1>" in done.stdout


def test_the_code_of_a_file_lasts_a_minute_and_goes_with_its_page(place: Home) -> None:
    page = Path(login_codes.handed(place, "http://127.0.0.1:1", 0))
    found = re.search(r"ptl_[\w-]+", page.read_text())
    assert found is not None
    with login_codes.redeemed(place, found[0], login_codes.HANDED_MS) as good:
        assert not good
    assert not page.exists()
    page = Path(login_codes.handed(place, "http://127.0.0.1:1", 0))
    login_codes.make(place, login_codes.HANDED_MS)
    assert not page.exists()


# what is stored


def test_nothing_that_opens_a_session_or_a_code_is_stored(world: World, home: Path) -> None:
    server, _ = world
    secret = code(home)
    visitor = logged_in(server, secret)
    secrets = [visitor.root.removeprefix("/~"), *visitor.cookies.values(), visitor.csrf, secret, code(home)]
    for directory in (home / "sessions", home / "logins"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for file in directory.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            text = file.name + file.read_text()
            assert [each for each in secrets if each in text] == []


def test_a_session_outlives_the_server(world: World, home: Path) -> None:
    server, _ = world
    visitor = logged_in(server, code(home))
    server.stop()
    server.start()
    assert visitor.get("/apps/shop").status == 200
    form = {"csrf": visitor.csrf, "expire_after": "9d", "grace": "0s", "retention": "7d"}
    assert visitor.post("/apps/shop/settings", form).status == 303


# ending


def ended(visitor: Visitor) -> bool:
    return visitor.get("/apps/shop").status == 303


def test_a_new_key_ends_every_session_and_every_code(world: World, home: Path) -> None:
    server, repo = world
    by_link = logged_in(server, code(home))
    by_token = logged_in(server, ok(repo, "token", "create", "--admin").strip())
    waiting = code(home)
    assert len(sessions(repo)) >= 2
    ok(repo, "token", "rotate-key", "--yes")
    assert sessions(repo) == []
    assert ended(by_link)
    assert ended(by_token)
    assert Visitor(server.base).log_in(waiting).status == 401
    logged_in(server, code(home))
    assert len(list((home / "sessions").iterdir())) == 1


def test_sessions_are_listed_with_who_and_until_when_and_ended_by_their_id(world: World, home: Path) -> None:
    server, repo = world
    visitor, other = logged_in(server, code(home)), logged_in(server, code(home))
    listed = sessions(repo)
    mine = listed[-2]
    assert (mine["label"], mine["read_only"], mine["database"]) == ("login link", False, None)
    assert mine["expires_at"] > mine["created_at"]
    row = next(line for line in ok(repo, "token", "list").splitlines() if line.startswith(mine["id"]))
    assert row.split()[1:5] == ["dashboard", "read-write", "valid", "until"]
    assert mine["id"] in ok(repo, "token", "revoke", mine["id"])
    assert events(home, "dashboard.revoke") == ["user"]
    assert ended(visitor)
    assert not ended(other)
    assert [each["id"] for each in sessions(repo)] == [each["id"] for each in listed if each != mine]
    assert "no token" in provisioner(repo, "token", "revoke", mine["id"]).stderr


def test_a_session_goes_with_the_token_that_began_it(world: World, home: Path) -> None:
    server, repo = world
    made = json.loads(ok(repo, "token", "create", "--admin", "--read-only", "--json"))
    visitor = logged_in(server, made["token"])
    assert f"token {made['id']}" in {each["label"] for each in sessions(repo)}
    ok(repo, "token", "revoke", made["id"])
    assert f"token {made['id']}" not in {each["label"] for each in sessions(repo)}
    assert ended(visitor)


def test_a_stream_ends_with_its_session(world: World, home: Path) -> None:
    server, repo = world
    visitor = logged_in(server, code(home))
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    stream = urllib3.request(
        "GET", f"{visitor.site}/events", headers={"cookie": cookie}, preload_content=False, timeout=60
    )
    assert stream.read(5) == b"retry"
    ok(repo, "token", "revoke", sessions(repo)[-1]["id"])
    assert b"still here" not in stream.read()


def test_a_page_that_fetches_itself_keeps_no_session(world: World, home: Path) -> None:
    server, repo = world
    visitor = logged_in(server, code(home))
    mine = sessions(repo)[-1]["id"]
    (file,) = (each for each in (home / "sessions").iterdir() if mine in each.read_text())
    before = file.stat().st_mtime - IDLE_MS / 2000
    os.utime(file, (before, before))
    assert visitor.get("/apps/shop", **{"x-live": "1"}).status == 200
    assert file.stat().st_mtime == pytest.approx(before, abs=1)
    assert visitor.get("/apps/shop").status == 200
    assert file.stat().st_mtime > before + 3600


# time


@pytest.fixture
def place(tmp_path: Path) -> Home:
    home = Home(str(tmp_path / "other"))
    home.create()
    return home


def found(place: Home, session: LoginSession, now: int, *, used: bool = True) -> bool:
    return LoginSessions(place).find(session.root, session.secret, now, used=used) is not None


def test_a_session_ends_when_it_was_idle_for_twelve_hours(place: Home) -> None:
    session = LoginSessions(place).begin("link", None, False, 0)
    assert found(place, session, IDLE_MS - 1, used=False)
    assert found(place, session, IDLE_MS - 1)
    assert found(place, session, 2 * IDLE_MS - 2, used=False)
    assert not found(place, session, 2 * IDLE_MS)
    assert not found(place, session, 0)


def test_a_session_ends_after_a_week_however_often_it_is_used(place: Home) -> None:
    session = LoginSessions(place).begin("link", None, False, 0)
    for now in range(0, LONGEST_MS, IDLE_MS // 2):
        assert found(place, session, now)
    assert not found(place, session, LONGEST_MS)


def test_of_too_many_sessions_the_one_that_was_used_least_recently_goes(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_files, "MOST", 3)
    begun = [LoginSessions(place).begin("link", None, False, now) for now in range(0, 300_000, 100_000)]
    assert found(place, begun[0], 300_000)
    begun.append(LoginSessions(place).begin("link", None, False, 400_000))
    assert [found(place, session, 400_000) for session in begun] == [True, False, True, True]


def test_of_another_home_or_an_earlier_key_no_session_is_one(place: Home, tmp_path: Path) -> None:
    session = LoginSessions(place).begin("link", None, False, 0)
    other = Home(str(tmp_path / "copy"))
    other.create()
    os.makedirs(other.sessions)
    (file,) = os.listdir(place.sessions)
    with open(os.path.join(place.sessions, file)) as given, open(os.path.join(other.sessions, file), "w") as copy:
        copy.write(given.read())
    assert not found(other, session, 0)
    assert session_files.listing(other, 0) == []
    secret_key.rotate(place)
    assert not found(place, session, 0)
    assert session_files.listing(place, 0) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"proof": 1}', b"\xff", b"[" * 100_000])
def test_a_damaged_file_is_no_session(place: Home, content: bytes) -> None:
    session = LoginSessions(place).begin("link", None, False, 0)
    (file,) = os.listdir(place.sessions)
    with open(os.path.join(place.sessions, file), "wb") as damaged:
        damaged.write(content)
    assert not found(place, session, 0)
    assert session_files.listing(place, 0) == []
    LoginSessions(place).begin("link", None, False, 0)


@pytest.mark.parametrize("strange", ["", "..", "a/b", "é" * 22, "\udc80" * 22, "x" * 21, "x" * 23, "x" * 100_000])
def test_what_is_no_root_or_no_secret_opens_nothing(place: Home, strange: str) -> None:
    session = LoginSessions(place).begin("link", None, False, 0)
    assert LoginSessions(place).find(strange, session.secret, 0) is None
    assert LoginSessions(place).find(session.root, strange, 0) is None
