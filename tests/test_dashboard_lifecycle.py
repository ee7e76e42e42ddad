"""What the command line does with timelines and their data, by forms: asked back, done, taken back, noted with who."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from connect_world import serving
from dashboard_world import Answer, Visitor, code
from support import commit, database_of, git, got, marked_shop, ok, put, rows, status

WHO = "login link"
HOSTILE = "<b>x</b>\u202e\"'{{7*7}}"


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[tuple[Visitor, Path]]:
    repo = marked_shop(shared_home.parent / "shop", "login")
    with serving(shared_home) as server:
        visitor = Visitor(server.base)
        visitor.log_in(code(shared_home))
        yield visitor, repo


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


def sent(visitor: Visitor, path: str, **fields: str) -> Answer:
    return visitor.post(path, {"csrf": visitor.csrf, **fields})


def done(visitor: Visitor, path: str, **fields: str) -> str:
    """What the note says of a change that is made."""
    answer = sent(visitor, path, **fields)
    assert answer.status == 303, (answer.status, answer.text)
    return visitor.get(answer.location).text.partition("<h1")[0]


def undone(visitor: Visitor, note: str, **fields: str) -> str:
    """What the note says after the button beside another one was pressed."""
    form = re.search(r'<div class="note.*?action="([^"]+)".*?</form>', note, re.DOTALL)
    assert form is not None, note
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form[0]))
    given = {name: html.unescape(value) for name, value in hidden.items() if name != "csrf"}
    return done(visitor, html.unescape(form[1]), **given, **fields)


def wrong(answer: Answer) -> bool:
    return answer.status in (400, 409)


def plain(answer: Answer) -> str:
    return html.unescape(answer.text)


def made(repo: Path, branch: str) -> tuple[dict[str, Any], str, str]:
    """A new branch whose database is marked with its name: that, its page, and the page of its timeline."""
    git(repo, "branch", branch)
    ok(repo, "reconcile")
    database = database_of(repo, f"git-branch/{branch}")
    put(database["path"], branch)
    return database, f"/databases/{database['id']}", timeline_page(repo, branch)


def timeline_page(repo: Path, branch: str, preview: int = 0) -> str:
    with closing(sqlite3.connect(repo.parent / "home" / "registry.db")) as registry:
        (found,) = registry.execute(
            "select id from timeline where branch = ? and preview = ?", (branch.encode(), preview)
        ).fetchone()
    return f"/timelines/{found}"


def held(repo: Path, branch: str) -> str:
    return got(database_of(repo, f"git-branch/{branch}")["path"])


def last(home: Path, action: str) -> str:
    """Who is noted for the last event of a kind."""
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        return str(
            registry.execute("select cause from event where action = ? order by id desc", (action,)).fetchone()[0]
        )


# other data


def test_a_fork_takes_the_place_of_what_was_there_and_goes_back(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    _, page, _ = made(repo, "forked")
    fields = {"source": "git-branch/login"}
    asked = sent(visitor, f"{page}/fork", **fields)
    assert (asked.status, held(repo, "forked")) == (200, "forked")
    assert "What it holds becomes a snapshot" in asked.text
    assert 'name="source" value="git-branch/login"' in asked.text
    note = done(visitor, f"{page}/fork", **fields, answer="yes")
    assert held(repo, "forked") == "git-branch/login"
    assert database_of(repo, "git-branch/forked")["forked_from"] == database_of(repo, "git-branch/login")["name"]
    assert "Its file has another path now" in note
    assert last(home, "database.fork") == WHO
    undone(visitor, note, answer="yes")
    assert held(repo, "forked") == "forked"
    assert last(home, "database.restore") == WHO


def test_a_reset_leaves_nothing_or_a_copy_and_goes_back(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    _, page, _ = made(repo, "anew")
    note = done(visitor, f"{page}/reset", source="empty", answer="yes")
    assert held(repo, "anew") == ""
    assert last(home, "database.reset") == WHO
    done(visitor, f"{page}/reset", source="production", answer="yes")
    assert held(repo, "anew") == "production"
    undone(visitor, note, answer="yes")
    assert held(repo, "anew") == "anew"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("none", "has no branch, timeline or database 'none' with a live database"),
        ("", "Name a timeline"),
        ("git-branch/refusing", "cannot be a fork of itself"),
        (HOSTILE, "has no branch, timeline or database"),
    ],
    ids=["unknown", "nothing", "itself", "hostile"],
)
def test_what_cannot_be_forked_is_said_beside_the_field_with_what_was_typed(
    world: tuple[Visitor, Path], source: str, words: str
) -> None:
    visitor, repo = world
    if "git-branch/refusing" not in {row["timeline"] for row in rows(repo)}:
        made(repo, "refusing")
    page = f"/databases/{database_of(repo, 'git-branch/refusing')['id']}"
    answer = sent(visitor, f"{page}/fork", source=source, answer="yes")
    assert wrong(answer)
    assert re.search(r'id="source-wrong" role="alert">(.*?)</p>', answer.text, re.DOTALL)
    assert words in plain(answer)
    assert f'value="{html.escape(source).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")}"' in answer.text
    assert "<b>x" not in answer.text
    assert held(repo, "refusing") == "refusing"


def test_nothing_is_put_in_the_place_of_production_or_of_what_is_protected(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    production = f"/databases/{database_of(repo, 'production')['id']}"
    refused = sent(visitor, f"{production}/fork", source="login", answer="yes")
    assert (wrong(refused), "is never the target of a fork" in plain(refused)) == (True, True)
    shown = visitor.get(f"{production}/copies").text
    assert (f"{production}/fork" in shown, f"{production}/restore" in shown) == (False, True)
    _, page, timeline = made(repo, "kept")
    done(visitor, f"{timeline}/protect")
    refused = sent(visitor, f"{page}/reset", answer="yes")
    assert (wrong(refused), "timeline unprotect" in plain(refused)) == (True, True)
    assert held(repo, "kept") == "kept"


def test_a_snapshot_is_taken_with_a_label_gone_back_to_and_deleted(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    database, page, _ = made(repo, "snapped")
    note = done(visitor, f"{page}/snapshots", label=f"before {HOSTILE}")
    assert last(home, "database.snapshot") == WHO
    shown = visitor.get(f"{page}/copies")
    assert "before <b>x</b>\\u202e" in plain(shown)
    assert "<b>x" not in shown.text
    (kept,) = json.loads(ok(repo, "database", "snapshot", "list", "snapped", "--json"))
    put(database["path"], "later", b"more")
    restored = done(visitor, f"{page}/restore", snapshot=kept["id"][:10], answer="yes")
    assert got(database_of(repo, "git-branch/snapped")["path"], b"more") == ""
    undone(visitor, restored, answer="yes")
    assert got(database_of(repo, "git-branch/snapped")["path"], b"more") == "later"
    asked = sent(visitor, f"{page}/snapshots/delete", snapshot=kept["id"])
    assert (asked.status, "It is gone then" in asked.text) == (200, True)
    undone(visitor, note, answer="yes")
    assert kept["id"] not in ok(repo, "database", "snapshot", "list", "snapped")
    assert last(home, "database.snapshot-delete") == WHO
    refused = sent(visitor, f"{page}/restore", snapshot=kept["id"], answer="yes")
    assert (wrong(refused), "no data is kept at revision" in plain(refused)) == (True, True)
    other = f"/databases/{database_of(repo, 'production')['id']}"
    kept_id = re.findall(r'name="snapshot" value="([^"]+)"', visitor.get(f"{page}/copies").text)[0]
    assert sent(visitor, f"{other}/snapshots/delete", snapshot=kept_id, answer="yes").status == 409
    assert "at most 200 characters" in plain(sent(visitor, f"{page}/snapshots", label="x" * 201))


def test_the_data_as_it_was_at_a_commit_is_gone_back_to(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    ok(repo, "app", "set", "--snapshot-revisions", "2")
    database, page, _ = made(repo, "moving")
    revision = git(repo, "rev-parse", "moving").stdout.strip()
    git(repo, "switch", "-q", "moving")
    commit(repo, "moved on")
    git(repo, "switch", "-q", "main")
    ok(repo, "reconcile")
    ok(repo, "app", "set", "--snapshot-revisions", "0")
    put(database["path"], "later", b"more")
    done(visitor, f"{page}/restore", snapshot=revision[:10], answer="yes")
    assert (held(repo, "moving"), got(database_of(repo, "git-branch/moving")["path"], b"more")) == ("moving", "")


def test_what_is_archived_can_be_deleted_for_good_once_that_is_said(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    database, page, _ = made(repo, "leaving")
    refused = sent(visitor, f"{page}/purge", answer="yes")
    assert (wrong(refused), "only what is archived is deleted" in refused.text) == (True, True)
    done(visitor, f"{page}/archive", answer="yes")
    asked = sent(visitor, f"{page}/purge")
    assert (asked.status, "Nothing brings them back" in asked.text) == (200, True)
    assert "deleted shop--leaving" in done(visitor, f"{page}/purge", answer="yes")
    assert database["id"] not in {row["id"] for row in rows(repo)}
    assert last(home, "database.purge-asked") == WHO
    assert visitor.get(page).status == 404


# how long


def test_a_timeline_is_protected_and_not_any_more(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    _, _, timeline = made(repo, "guarded")

    def protected() -> bool:
        return next(bool(item["protected"]) for item in status(repo) if item["branch"] == "guarded")

    note = done(visitor, f"{timeline}/protect")
    assert protected()
    assert "does not expire, and stays when its branch goes" in visitor.get(timeline).text
    undone(visitor, note)
    assert not protected()
    assert (last(home, "timeline.protect"), last(home, "timeline.unprotect")) == (WHO, WHO)


def test_a_timeline_expires_when_it_is_said_to(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    _, _, timeline = made(repo, "passing")

    def expires() -> object:
        return next(item["expires_at"] for item in status(repo) if item["branch"] == "passing")

    note = done(visitor, f"{timeline}/expire", after="14d")
    assert "passing expires at " in note
    assert expires()
    assert "It expires" in visitor.get(timeline).text
    undone(visitor, note)
    assert expires() is None
    assert "does not expire" in done(visitor, f"{timeline}/expire", after="never")
    refused = sent(visitor, f"{timeline}/expire", after="soon")
    assert (wrong(refused), "'soon' is no time" in plain(refused), 'value="soon"' in refused.text) == (True, True, True)
    production = timeline_page(repo, "main")
    assert "never expires" in plain(sent(visitor, f"{production}/expire", after="1d"))
    assert last(home, "timeline.expire") == WHO


# sharing


def test_sharing_is_seen_on_both_sides_and_ends(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    owner, owner_page = made(repo, "lender")[0], timeline_page(repo, "lender")
    _, _, borrower = made(repo, "borrower")
    note = done(visitor, f"{borrower}/share", owner="lender")
    assert last(home, "database.share") == WHO
    there = next(item for item in status(repo) if item["branch"] == "borrower")["databases"][0]
    assert there["id"] == owner["id"]
    assert "git-branch/lender" in visitor.get(borrower).text
    assert "used too by" in visitor.get(owner_page).text
    listed = visitor.get("/apps/shop?q=er").text
    assert re.search(r"uses that of <a [^>]*><bdi>git-branch/lender", listed)
    assert re.search(r"used by <a [^>]*><bdi>git-branch/borrower", listed)
    assert 'class="share"' in listed
    ended = undone(visitor, note)
    assert held(repo, "borrower") == "borrower"
    undone(visitor, ended)
    assert next(item for item in status(repo) if item["branch"] == "borrower")["databases"][0]["id"] == owner["id"]
    assert "uses" in done(visitor, f"{borrower}/unshare")
    assert last(home, "database.unshare") == WHO
    refused = sent(visitor, f"{borrower}/unshare")
    assert (wrong(refused), "shares no database" in refused.text) == (True, True)


def test_sharing_productions_database_is_asked_back(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    _, _, timeline = made(repo, "bold")
    asked = sent(visitor, f"{timeline}/share", owner="production")
    assert (asked.status, "the data of PRODUCTION" in asked.text) == (200, True)
    assert held(repo, "bold") == "bold"
    refused = sent(visitor, f"{timeline}/share", owner="bold")
    assert (wrong(refused), "uses its own database already" in refused.text) == (True, True)
    assert "Name one" in sent(visitor, f"{timeline}/share", owner="").text
    assert "has no branch or timeline" in plain(sent(visitor, f"{timeline}/share", owner=HOSTILE))


# previews


def test_a_preview_is_made_deleted_and_comes_back(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    previews = "/apps/shop/previews"
    revision = git(repo, "rev-parse", "main").stdout.strip()
    note = done(visitor, previews, revision="main", source="production", ttl="3d")
    (document,) = [item for item in status(repo) if item["timeline"] == f"preview/{revision}"]
    assert (document["status"], bool(document["expires_at"])) == ("connected", True)
    assert got(document["databases"][0]["path"]) == "production"
    page = timeline_page(repo, revision, 1)
    assert page in visitor.get(previews).text
    asked = sent(visitor, f"{page}/delete")
    assert (asked.status, "Its data is kept" in asked.text) == (200, True)
    gone = undone(visitor, note, answer="yes")
    assert last(home, "timeline.gone") == WHO
    assert "Bring it back" in visitor.get(previews).text
    undone(visitor, gone)
    (document,) = [item for item in status(repo) if item["timeline"] == f"preview/{revision}"]
    assert got(document["databases"][0]["path"]) == "production"
    refused = sent(visitor, previews, revision=revision, source="login", ttl="1d")
    assert (wrong(refused), "has data already" in refused.text) == (True, True)
    assert sent(visitor, f"{timeline_page(repo, 'main')}/delete", answer="yes").status == 404


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"revision": "nothing"}, "revision", "is no commit of"),
        ({"revision": ""}, "revision", "Name a commit"),
        ({"revision": "--all"}, "revision", "is no commit of"),
        ({"revision": "main", "ttl": "soon"}, "ttl", "is no time"),
        ({"revision": "login~0", "source": "snapshot"}, "revision", ""),
        ({"revision": "x" * 300_000}, "revision", "is no commit"),
        ({"revision": "a\0b"}, "revision", "is no commit"),
    ],
    ids=["unknown", "nothing", "option", "time", "no snapshot", "long", "zero byte"],
)
def test_a_preview_that_cannot_be_made_says_why(
    world: tuple[Visitor, Path], fields: dict[str, str], field: str, words: str
) -> None:
    visitor, _ = world
    answer = sent(visitor, "/apps/shop/previews", **fields)
    assert wrong(answer)
    assert f'id="{field}-wrong"' in answer.text
    assert words in plain(answer)


# variables


def values(repo: Path) -> dict[tuple[str, str], str | None]:
    return {(item["name"], item["context"]): item["value"] for item in json.loads(ok(repo, "var", "list", "--json"))}


def test_a_variable_is_set_changed_and_forgotten(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    page = "/apps/shop/variables"
    where = {"context-development": "yes", "context-local": "yes"}
    first = done(visitor, page, way="one", name="GREETING", value=f"one\r\n{HOSTILE}", **where)
    assert values(repo)["GREETING", "local"] == f"one\n{HOSTILE}"
    assert ("GREETING", "production") not in values(repo)
    assert last(home, "var.set") == WHO
    edit = visitor.get(f"{page}?name=GREETING&context=local")
    assert f"one\n{HOSTILE}</textarea>" in plain(edit)
    assert "<b>x" not in edit.text
    note = done(visitor, page, way="one", name="GREETING", value="two", **{"context-local": "yes"})
    assert (values(repo)["GREETING", "local"], values(repo)["GREETING", "development"][:3]) == ("two", "one")  # type: ignore[index]
    undone(visitor, note)
    assert values(repo)["GREETING", "local"] == f"one\n{HOSTILE}"
    asked = sent(visitor, f"{page}/unset", name="GREETING", **{"context-local": "yes"})
    assert (asked.status, "Forget GREETING in local of shop?" in asked.text) == (200, True)
    forgotten = done(visitor, f"{page}/unset", name="GREETING", **{"context-local": "yes"}, answer="yes")
    assert ("GREETING", "local") not in values(repo)
    assert last(home, "var.unset") == WHO
    undone(visitor, forgotten)
    assert values(repo)["GREETING", "local"] == f"one\n{HOSTILE}"
    undone(visitor, first, answer="yes")
    assert not [name for name, _ in values(repo) if name == "GREETING"]


def test_a_secret_is_written_and_never_read(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    page = "/apps/shop/variables"
    fields = {"way": "secret", "secret": "yes", "name": "API_KEY", "context-production": "yes"}
    note = done(visitor, page, **fields, value="hunter2hunter2")
    changed = done(visitor, page, **fields, value="other2other2")
    refused = sent(visitor, page, **{**fields, "name": "1"}, value="wrong2wrong2").text
    plain_way = sent(visitor, page, way="one", name="API_KEY", value="wrong2wrong2").text
    edit = visitor.get(f"{page}?name=API_KEY&context=production").text
    assert 'type="password"' in edit
    asked = sent(visitor, f"{page}/unset", name="API_KEY").text
    gone = done(visitor, f"{page}/unset", name="API_KEY", answer="yes")
    everything = (
        note,
        changed,
        refused,
        plain_way,
        edit,
        asked,
        gone,
        visitor.get(page).text,
        visitor.get("/activity").text,
    )
    assert not [text for text in everything if re.search("hunter2|other2|wrong2", text)]
    assert not [name for name, _ in values(repo) if name == "API_KEY"]


def test_the_lines_of_a_file_are_set_together_or_not_at_all(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    page = "/apps/shop/variables"
    lines = "# some\r\nONE=1\r\nexport TWO='2 # 2'\r\n"
    note = done(visitor, page, way="lines", lines=lines, **{"context-local": "yes"})
    assert "ONE, TWO set for local" in html.unescape(note)
    assert (values(repo)["ONE", "local"], values(repo)["TWO", "local"]) == ("1", "2 # 2")
    for bad, words in (("ONE=3\nwhat", "line 2: this is no NAME=VALUE"), ("ONE=3\nDENO_X=1", "cannot be set")):
        refused = sent(visitor, page, way="lines", lines=bad, **{"context-local": "yes"})
        assert (wrong(refused), words in plain(refused), bad in plain(refused)) == (True, True, True)
    assert values(repo)["ONE", "local"] == "1"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"name": "1X"}, "name", "cannot be the name of a variable"),
        ({"name": "PGHOST"}, "name", "it tells an app where its database is"),
        ({"name": "X", "value": "x" * 20_000}, "value", "more than 16384"),
        ({"name": "X", "value": "x"}, "contexts", "Choose one at least"),
    ],
    ids=["name", "taken", "value", "context"],
)
def test_a_variable_that_cannot_be_set_says_why(
    world: tuple[Visitor, Path], fields: dict[str, str], field: str, words: str
) -> None:
    visitor, _ = world
    where = {} if field == "contexts" else {"context-local": "yes"}
    answer = sent(visitor, "/apps/shop/variables", way="one", **fields, **where)
    assert wrong(answer)
    assert f'id="{field}-wrong"' in answer.text
    assert words in plain(answer)


# settings


def test_how_long_things_are_kept_is_set_and_put_back(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    page = "/apps/shop/settings"

    def kept() -> tuple[int, int, int | None]:
        document = json.loads(ok(repo, "app", "show", "--json"))
        return document["grace_ms"], document["retention_ms"], document["expire_ms"]

    before = kept()
    note = done(visitor, page, grace="0s", retention="3d", expire_after="30d")
    assert kept() == (0, 3 * 86_400_000, 30 * 86_400_000)
    assert last(home, "app.set") == WHO
    undone(visitor, note)
    assert kept() == before
    refused = sent(visitor, page, grace="0s", retention="later", expire_after="0s")
    assert (wrong(refused), 'id="retention-wrong"' in refused.text, 'value="later"' in refused.text) == (
        True,
        True,
        True,
    )
    shown = plain(visitor.get(page))
    for command in ("--pre-deploy CMD", "--snapshot-revisions N", "--scrub CMD"):
        assert command in shown
    assert kept() == before


# choosing among many


def test_names_to_choose_from_are_few_and_have_in_them_what_was_typed(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    for branch in ("choose/one", "choose/two", "choose\u202eturned"):
        git(repo, "branch", branch)
    git(repo, "branch", b"choose-\xff")
    ok(repo, "reconcile")
    found = json.loads(visitor.get("/apps/shop/names?q=git-branch/choose").text)
    assert {"git-branch/choose/one", "git-branch/choose/two"} < set(found)
    assert len(found) == 4
    assert all(name.isprintable() for name in found)
    assert json.loads(visitor.get("/apps/shop/names?q=prod").text)[0] == "production"
    strange = next(name for name in found if name.startswith("shop--choose-") and "git-branch" not in name)
    page = f"/databases/{database_of(repo, 'git-branch/choose/one')['id']}"
    done(visitor, f"{page}/fork", source=strange, answer="yes")
    done(visitor, f"{timeline_page(repo, 'choose/two')}/share", owner=strange)
    assert visitor.get("/apps/none/names?q=x").status == 404
