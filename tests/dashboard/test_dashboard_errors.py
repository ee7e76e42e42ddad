"""What fails, or is sent too late, leaves people on their page, with what they typed."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from changing_world import form
from connect_world import Server
from dashboard_html import plain
from dashboard_world import Answer, Visitor, code, visited
from support import database_of, ok, rows, shop, statuses
from timeline_world import timeline_page

from provisioner.core.errors import ProvisionerError
from provisioner.dashboard.web.background_tasks import BackgroundTasks
from provisioner.dashboard.web.sessions import LoginSessions, Notice, Offer
from provisioner.kv import open_kv
from provisioner.kv.codec.key import encode
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.registry.store import Registry
from provisioner.system.home import Home

World = tuple[Server, Path, Visitor]


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[World]:
    repo = shop(shared_home.parent / "shop", "login", "other")
    ok(repo, "timeline", "protect", "other")
    with visited(shared_home) as (server, visitor):
        yield server, repo, visitor


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


def sent(visitor: Visitor, page: str, path: str, **fields: str) -> Answer:
    """From a page, as a browser sends it."""
    return visitor.post(path, {"csrf": visitor.csrf, **fields}, referer=visitor.site + page)


def alert(text: str) -> str:
    found = re.search(r'role="alert">(.*?)</(?:p|div)>', text, re.DOTALL)
    assert found is not None, text
    return plain(found[1])


# errors


def test_a_change_that_fails_leads_back_to_its_page_and_says_why_there(world: World) -> None:
    _, repo, visitor = world
    database = f"/databases/{database_of(repo, 'git-branch/other')['id']}"
    for page in (database, "/apps/shop?q=oth", "/instances/default?q=other", timeline_page(repo, "other")):
        refused = sent(visitor, page, f"{database}/archive")
        assert (refused.status, refused.location) == (303, page)
        shown = visitor.get(page)
        assert "its timeline is protected" in alert(shown.text)
        assert "Request failed" not in shown.text
        assert 'role="alert"' not in visitor.get(page).text


def test_a_change_that_fails_after_its_question_leads_back_past_the_question(world: World) -> None:
    _, repo, visitor = world
    database = database_of(repo, "git-branch/login")
    page = "/apps/shop?q=login"
    asked = sent(visitor, page, f"/databases/{database['id']}/archive")
    fields = {name: html.unescape(value) for name, value in form(asked.text).items()}
    ok(repo, "timeline", "protect", "login")
    refused = visitor.post(f"/databases/{database['id']}/archive", {**fields, "csrf": visitor.csrf})
    assert (refused.status, refused.location) == (303, page)
    assert "its timeline is protected" in alert(visitor.get(page).text)
    ok(repo, "timeline", "unprotect", "login")


@pytest.mark.parametrize(
    "referer", ["", "https://evil.example/apps/shop", "//evil.example", "{base}/login", "{site}/databases/x/archive"]
)
def test_where_nobody_knows_the_page_it_is_that_of_the_thing_itself(world: World, referer: str) -> None:
    server, repo, visitor = world
    database = f"/databases/{database_of(repo, 'git-branch/other')['id']}"
    given = referer.format(base=server.base, site=visitor.site)
    refused = visitor.post(f"{database}/archive", {"csrf": visitor.csrf, "page": "//evil.example"}, referer=given)
    assert (refused.status, refused.location) == (303, database)
    visitor.get(database)


def test_a_prefix_that_is_none_stays_in_the_explorer(world: World) -> None:
    _, repo, visitor = world
    keys = f"/databases/{database_of(repo, 'git-branch/login')['id']}/keys"
    for query, field in (
        ("prefix=[1", "prefix"),
        ("prefix=users&as=list", "prefix"),
        ('as=list&start=["a"&end=["b"]', "start"),
        ('as=list&start=["a"]&end=b', "end"),
        ("as=list&cursor=zz&prefix=[]", "prefix"),
    ):
        shown = visitor.get(f"{keys}?{query}")
        assert shown.status == 400, query
        assert f'id="{field}-wrong" role="alert"' in shown.text, query
        assert "data-events" not in shown.text  # a page that cannot be fetched again does not fetch itself
        typed = re.search(rf"{field}=([^&]*)", query)
        assert f'id="{field}"' in shown.text
        assert typed is None or f'value="{html.escape(typed[1]).replace("&quot;", "&#34;")}"' in shown.text


def test_what_fails_after_a_while_has_its_form_beside_the_note(home: Path) -> None:
    works = BackgroundTasks(Home(str(home)), lambda: None)
    session = LoginSessions(Home(str(home))).begin("somebody", None, False, 0)
    again = Offer("Back to the form", "/apps/shop/variables", {"typed": '{"lines": "A=1"}'})

    def refuse(registry: Registry, reporter: ProgressReporter) -> Proposal:
        raise ProvisionerError("the disk is full", "Free space")

    work = works.begin(session, "Set A", 0, refuse, lambda _: None, again)
    assert work.over.wait(60)
    assert work.note == Notice("the disk is full. Free space", again, problem=True)


def test_a_form_of_another_session_comes_back_and_is_not_done(world: World) -> None:
    _, repo, visitor = world
    fields = {"csrf": "x", "way": "lines", "lines": "OTHER=1", "context-production": "yes"}
    refused = visitor.post("/apps/shop/variables", fields)
    assert (refused.status, "this form is from another session" in refused.text) == (403, True)
    back = visitor.post("/apps/shop/variables", form(refused.text) | {"csrf": visitor.csrf})
    assert form(back.text)["lines"] == "OTHER=1"
    assert "OTHER" not in ok(repo, "var", "list")


# an ended session


def ended(server: Server, repo: Path, home: Path) -> Visitor:
    """Somebody whose session has just ended."""
    visitor = Visitor(server.base)
    assert visitor.log_in(code(home)).status == 303
    listed = [each for each in json.loads(ok(repo, "token", "list", "--json")) if each["scope"] == "session"]
    ok(repo, "token", "revoke", listed[-1]["id"])
    return visitor


def resumed(visitor: Visitor, home: Path, answer: Answer) -> Answer:
    """The page after the login, as a browser gets there: it sends the same form once more."""
    assert (answer.status, "The session has ended, and nothing was changed" in answer.text) == (401, True)
    hidden = form(answer.text)
    login = {**hidden, "secret": code(home)}
    wrong = visitor.post("/login", {**hidden, "secret": "ptl_wrong"})
    assert form(wrong.text) == hidden
    entered = visitor.post("/login", login)
    assert entered.status == 307
    again = visitor.post(entered.location, login)
    found = re.search(r'name="csrf" value="([^"]+)"', again.text)
    if found is not None:
        visitor.csrf = found[1]
    return again


FORMS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/apps/shop/variables", {"way": "one", "name": "N", "value": 'a "b" <c>\r\n\u00e9', "context-production": "yes"}),
    ("/apps/shop/settings", {"grace": "5s", "retention": "9d", "expire_after": "30d"}),
    ("/add-instance", {"name": "extra", "engine": "deno-kv"}),
    ("/apps/shop/previews", {"revision": "main", "source": "production", "ttl": "2d"}),
    ("{timeline}/expire", {"after": "11d"}),
    ("{database}/snapshots", {"label": "a label"}),
    ("{database}/new", {"key": '["typed"]', "value": '"typed"', "spelling": "json", "expiry": "7d"}),
    ("{database}/edit?key={key}", {"value": '"edited"', "spelling": "json", "expiry": "", "versionstamp": "{stamp}"}),
)


@pytest.mark.parametrize(("path", "fields"), FORMS, ids=[path for path, _ in FORMS])
def test_what_is_sent_after_the_session_has_ended_comes_back_and_is_done_when_it_is_sent_again(
    world: World, home: Path, path: str, fields: dict[str, str]
) -> None:
    server, repo, reader = world
    database = database_of(repo, "git-branch/login")
    with open_kv(database["path"]) as kv:
        kv.set(("here",), 1)
    page = f"/databases/{database['id']}"
    key = encode(("here",)).hex()
    stamp = re.search(r'name="versionstamp" value="(\w+)"', reader.get(f"{page}/edit?key={key}").text)
    assert stamp is not None
    path = path.format(timeline=timeline_page(repo, "login"), database=page, key=key)
    fields = {name: value.replace("{stamp}", stamp[1]) for name, value in fields.items()}
    before = state(home, database["path"])
    visitor = ended(server, repo, home)
    again = resumed(visitor, home, visitor.post(path, {"csrf": visitor.csrf, **fields}))
    assert again.status == 409
    assert "session had ended, so nothing was changed" in again.text
    assert state(home, database["path"]) == before
    typed = form(again.text)
    for name, value in fields.items():
        if name in typed:
            assert typed[name].replace("\r\n", "\n") == value.replace("\r\n", "\n"), name
    assert set(typed) & set(fields) >= set(fields) - {"context-production", "engine", "versionstamp", "way"}
    done = visitor.post(path, {**fields, "csrf": visitor.csrf})
    assert done.status == 303
    assert state(home, database["path"]) != before


def state(home: Path, file: str) -> tuple[list[str], list[object]]:
    """All that is stored, but who has logged in and when."""
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        lines = [line for line in registry.iterdump() if "dashboard." not in line and 'INTO "sqlite_' not in line]
    with open_kv(file) as kv:
        return lines, [(entry.key, entry.value) for entry in kv.list(prefix=())]


def test_a_change_that_asks_back_asks_after_the_login_whatever_was_answered_before(world: World, home: Path) -> None:
    server, repo, _ = world
    database = database_of(repo, "git-branch/login")
    visitor = ended(server, repo, home)
    fields = {"csrf": visitor.csrf, "answer": "yes"}
    again = resumed(visitor, home, visitor.post(f"/databases/{database['id']}/archive", fields))
    assert "Archive shop--login" in plain(again.text)
    assert statuses(repo)["git-branch/login"] == "connected"
    unasked = resumed(visitor := ended(server, repo, home), home, visitor.post("/apps/shop/variables/unset", fields))
    assert unasked.status in (200, 303, 409)


def test_what_was_only_a_button_is_not_pressed_again(world: World, home: Path) -> None:
    server, repo, _ = world
    database = f"/databases/{database_of(repo, 'git-branch/login')['id']}"
    visitor = ended(server, repo, home)
    again = resumed(visitor, home, visitor.post(f"{database}/reveal", {"csrf": visitor.csrf}))
    assert (again.location, "ptd_" in again.text) == (database, False)
    assert "nothing was changed" in visitor.get(database).text


def test_no_page_that_carries_what_was_typed_makes_a_live_session_do_it(world: World, home: Path) -> None:
    """Another site's page could carry anything: it is shown, in a form, and done by nobody but who sends that."""
    _, repo, visitor = world
    database = database_of(repo, "git-branch/login")
    page = f"/databases/{database['id']}"
    before = state(home, database["path"])
    carried = {"answer": "yes", "csrf": visitor.csrf, "source": "empty", "name": "X", "value": "1", "way": "one"}
    for path in (f"{page}/archive", f"{page}/reset", f"{page}/reveal", "/apps/shop/variables", f"{page}/new"):
        answer = visitor.post(path, {"typed": json.dumps(carried)})
        assert answer.status in (200, 303, 409), path
        assert "ptd_" not in answer.text
        for site in ("cross-site", "same-site", "none"):
            assert visitor.post(path, {"typed": "{}"}, sec_fetch_site=site).status == 403
    assert state(home, database["path"]) == before


@pytest.mark.parametrize("typed", ["", "x", "[]", '{"a": 1}', "null", "[" * 50_000])
def test_what_carries_nothing_is_a_form_as_any_other(world: World, typed: str) -> None:
    _, _, visitor = world
    assert visitor.post("/apps/shop/variables", {"typed": typed}).status == 403


def test_the_page_that_was_asked_for_is_found_after_the_login(world: World, home: Path) -> None:
    server, repo, _ = world
    visitor = ended(server, repo, home)
    to_login = visitor.get("/apps/shop?q=log")
    assert (to_login.status, to_login.location) == (303, "/login?next=/apps/shop%3Fq%3Dlog")
    following = form(visitor.get(to_login.location).text)["next"]
    entered = visitor.post("/login", {"secret": code(home), "next": following})
    assert (entered.status, entered.location) == (303, "/apps/shop?q=log")
    assert rows(repo)
