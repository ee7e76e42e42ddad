"""An app's previews, variables and settings, by forms: as the command line has and sets them."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard_world import Visitor, visited
from support import git, got, marked_shop, ok, status
from timeline_world import HOSTILE, WHO, done, last, plain, sent, timeline_page, undone, wrong


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[tuple[Visitor, Path]]:
    repo = marked_shop(shared_home.parent / "shop", "login")
    with visited(shared_home) as (_, visitor):
        yield visitor, repo


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


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
    assert (asked.status, "Its data is recoverable" in asked.text) == (200, True)
    gone = undone(visitor, note, answer="yes")
    assert last(home, "timeline.gone") == WHO
    assert "Recover" in visitor.get(previews).text
    undone(visitor, gone)
    (document,) = [item for item in status(repo) if item["timeline"] == f"preview/{revision}"]
    assert got(document["databases"][0]["path"]) == "production"
    refused = sent(visitor, previews, revision=revision, source="login", ttl="1d")
    assert (wrong(refused), "already has data" in refused.text) == (True, True)
    assert sent(visitor, f"{timeline_page(repo, 'main')}/delete", answer="yes").status == 404


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"revision": "nothing"}, "revision", "is not a commit of"),
        ({"revision": ""}, "revision", "Enter a commit"),
        ({"revision": "--all"}, "revision", "is not a commit of"),
        ({"revision": "main", "ttl": "soon"}, "ttl", "is not a duration"),
        ({"revision": "login~0", "source": "snapshot"}, "revision", ""),
        ({"revision": "x" * 300_000}, "revision", "is not a commit"),
        ({"revision": "a\0b"}, "revision", "is not a commit"),
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
    assert (asked.status, "Unset GREETING in local for shop?" in asked.text) == (200, True)
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
    assert "Set ONE, TWO of shop for local" in html.unescape(note)
    assert (values(repo)["ONE", "local"], values(repo)["TWO", "local"]) == ("1", "2 # 2")
    for bad, words in (("ONE=3\nwhat", "line 2: this is not NAME=VALUE"), ("ONE=3\nDENO_X=1", "cannot be set")):
        refused = sent(visitor, page, way="lines", lines=bad, **{"context-local": "yes"})
        assert (wrong(refused), words in plain(refused), bad in plain(refused)) == (True, True, True)
    assert values(repo)["ONE", "local"] == "1"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"name": "1X"}, "name", "cannot be the name of a variable"),
        ({"name": "PGHOST"}, "name", "it contains the location of the app"),
        ({"name": "X", "value": "x" * 20_000}, "value", "more than 16384"),
        ({"name": "X", "value": "x"}, "contexts", "Choose at least one"),
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
