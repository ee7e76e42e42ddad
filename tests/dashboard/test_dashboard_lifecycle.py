"""What the command line does with timelines and their data, by forms: asked back, done, taken back, noted with who."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard_world import Visitor, visited
from support import commit, database_of, git, got, marked_shop, ok, put, rows, status
from timeline_world import HOSTILE, WHO, done, held, last, made, plain, refusal, sent, timeline_page, undone, wrong


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[tuple[Visitor, Path]]:
    repo = marked_shop(shared_home.parent / "shop", "login")
    with visited(shared_home) as (_, visitor):
        yield visitor, repo


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


# other data


def test_a_fork_takes_the_place_of_what_was_there_and_goes_back(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, repo = world
    _, page, _ = made(repo, "forked")
    fields = {"source": "git-branch/login"}
    asked = sent(visitor, f"{page}/fork", **fields)
    assert (asked.status, held(repo, "forked")) == (200, "forked")
    assert "Its current data becomes a snapshot" in asked.text
    assert 'name="source" value="git-branch/login"' in asked.text
    note = done(visitor, f"{page}/fork", **fields, answer="yes")
    assert held(repo, "forked") == "git-branch/login"
    assert database_of(repo, "git-branch/forked")["forked_from"] == database_of(repo, "git-branch/login")["name"]
    assert "Its file has a new path" in note
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
        ("none", "has no branch, timeline, or database 'none'"),
        ("", "Enter a timeline"),
        ("git-branch/refusing", "cannot be a fork of itself"),
        (HOSTILE, "has no branch, timeline, or database"),
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
    assert (wrong(refused), "it holds production data" in plain(refused)) == (True, True)
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
    assert (asked.status, "This cannot be undone" in asked.text) == (200, True)
    undone(visitor, note, answer="yes")
    assert kept["id"] not in ok(repo, "database", "snapshot", "list", "snapped")
    assert last(home, "database.snapshot-delete") == WHO
    refused = sent(visitor, f"{page}/restore", snapshot=kept["id"], answer="yes")
    assert (wrong(refused), "has no snapshot at revision" in plain(refused)) == (True, True)
    other = f"/databases/{database_of(repo, 'production')['id']}"
    kept_id = re.findall(r'name="snapshot" value="([^"]+)"', visitor.get(f"{page}/copies").text)[0]
    assert "does not belong to" in refusal(
        visitor, sent(visitor, f"{other}/snapshots/delete", snapshot=kept_id, answer="yes")
    )
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
    assert "not archived" in refusal(visitor, refused)
    done(visitor, f"{page}/archive", answer="yes")
    asked = sent(visitor, f"{page}/purge")
    assert (asked.status, "This cannot be undone" in asked.text) == (200, True)
    assert "Permanently deleted shop--leaving" in done(visitor, f"{page}/purge", answer="yes")
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
    assert "doesn't expire, and it stays when its branch is deleted" in visitor.get(timeline).text
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
    assert "Expires" in visitor.get(timeline).text
    undone(visitor, note)
    assert expires() is None
    assert "does not expire" in done(visitor, f"{timeline}/expire", after="never")
    refused = sent(visitor, f"{timeline}/expire", after="soon")
    assert (wrong(refused), "'soon' is not a duration" in plain(refused), 'value="soon"' in refused.text) == (
        True,
        True,
        True,
    )
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
    assert "also used by" in visitor.get(owner_page).text
    listed = visitor.get("/apps/shop?q=er").text
    assert re.search(r"uses the database of <a [^>]*><bdi>git-branch/lender", listed)
    assert re.search(r"used by <a [^>]*><bdi>git-branch/borrower", listed)
    assert 'class="share"' in listed
    ended = undone(visitor, note)
    assert held(repo, "borrower") == "borrower"
    undone(visitor, ended)
    assert next(item for item in status(repo) if item["branch"] == "borrower")["databases"][0]["id"] == owner["id"]
    assert "uses" in done(visitor, f"{borrower}/unshare")
    assert last(home, "database.unshare") == WHO
    refused = sent(visitor, f"{borrower}/unshare")
    assert "shares no database" in refusal(visitor, refused)


def test_sharing_productions_database_is_asked_back(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    _, _, timeline = made(repo, "bold")
    asked = sent(visitor, f"{timeline}/share", owner="production")
    assert (asked.status, "the data of PRODUCTION" in asked.text) == (200, True)
    assert held(repo, "bold") == "bold"
    refused = sent(visitor, f"{timeline}/share", owner="bold")
    assert (wrong(refused), "already uses its own database" in refused.text) == (True, True)
    assert "Enter one" in sent(visitor, f"{timeline}/share", owner="").text
    assert "has no branch or timeline" in plain(sent(visitor, f"{timeline}/share", owner=HOSTILE))


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
