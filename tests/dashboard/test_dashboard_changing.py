"""Changing what is in a database from the dashboard: nothing is overwritten that was not seen, and nothing is lost."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from changing_world import World
from connect_world import access, deno, token
from dashboard_world import Visitor, code, visited
from support import database_of, events, git, ok, shop
from v8serialize.jstypes import JSArray

from provisioner.kv import KvU64, open_kv
from provisioner.kv.codec.key import encode


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[World]:
    repo = shop(shared_home.parent / "shop", "login")
    with visited(shared_home) as (server, visitor):
        yield World(server, visitor, repo)


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


# making, editing, deleting, taking back


def test_a_key_is_created_edited_deleted_and_each_is_taken_back(world: World, home: Path) -> None:
    key = ("users", 1)
    answer = world.create('["users", 1]', '{"name": "Ada"}')
    assert world.visitor.get(answer.location).text.count("Created") == 1
    assert "Created" not in world.visitor.get(answer.location).text
    assert world.get(key).value == {"name": "Ada"}
    edited = world.send(world.page("edit", key).text, {"value": '{"name": "Grace"}'}, "edit", key)
    assert edited.status == 303
    assert world.get(key).value == {"name": "Grace"}
    assert world.undo(edited).status == 303
    assert world.get(key).value == {"name": "Ada"}
    deleted = world.send(world.page("entry", key).text, {}, "delete", key)
    assert world.get(key).versionstamp is None
    again = world.undo(deleted)
    assert world.get(key).value == {"name": "Ada"}
    world.undo(again)
    assert world.get(key).versionstamp is None
    world.page("entry", key)
    assert "Undo" in world.page("entry", key).text
    with closing(sqlite3.connect(home / "registry.db")) as connection:
        told = connection.execute(
            "select action, cause, detail from event where action like 'key.%' order by id"
        ).fetchall()
    assert [action for action, _, _ in told] == [
        *("key.create", "key.edit", "key.undo", "key.delete", "key.undo", "key.undo")
    ]
    assert {(cause, detail) for _, cause, detail in told} == {("login link", '["users", 1]')}
    assert "Ada" not in world.server.log.read_text()


def test_what_is_deleted_comes_back_bit_by_bit_with_its_expiry(world: World) -> None:
    world.set(("odd",), JSArray({0: 1, 5: 2}), expire_in=3_600_000)
    select = "select v, v_encoding, expiration_ms from kv where k = ?"
    with closing(sqlite3.connect(world.file)) as connection:
        before = connection.execute(select, (encode(("odd",)),)).fetchall()
        world.undo(world.send(world.page("entry", ("odd",)).text, {}, "delete", ("odd",)))
        assert connection.execute(select, (encode(("odd",)),)).fetchall() == before != []


def test_what_was_changed_since_is_not_taken_back(world: World) -> None:
    answer = world.create('["since"]', "1")
    world.set(("since",), 2)
    refused = world.undo(answer)
    assert "has changed since" in world.visitor.get(refused.location).text
    assert world.get(("since",)).value == 2
    unknown = world.visitor.post(f"{world.path}/undo", {"csrf": world.visitor.csrf, "change": "0"})
    assert unknown.status == 404


def test_of_another_session_nothing_is_taken_back(world: World, home: Path) -> None:
    answer = world.create('["mine"]', "1")
    page = world.visitor.get(answer.location).text
    other = Visitor(world.server.base)
    other.log_in(code(home))
    found = re.search(r'name="change" value="(\w+)"', page)
    assert found is not None
    assert other.post(f"{world.path}/undo", {"csrf": other.csrf, "change": found[1]}).status == 404
    assert world.get(("mine",)).value == 1


# what somebody else wrote meanwhile


def test_an_edit_of_what_was_changed_meanwhile_shows_all_three_and_goes_on(world: World) -> None:
    world.set(("raced",), "what was seen")
    page = world.page("edit", ("raced",)).text
    world.set(("raced",), "what is there")
    answer = world.send(page, {"value": '"what was typed"'}, "edit", ("raced",))
    assert answer.status == 409
    for text in ("what was seen", "what is there", "what was typed"):
        assert text in answer.text, text
    assert world.get(("raced",)).value == "what is there"
    assert world.send(answer.text, {}, "edit", ("raced",)).status == 303
    assert world.get(("raced",)).value == "what was typed"


def test_an_edit_of_what_was_deleted_meanwhile_can_create_it(world: World) -> None:
    world.set(("gone",), 1)
    page = world.page("edit", ("gone",)).text
    with open_kv(str(world.file)) as kv:
        kv.delete(("gone",))
    answer = world.send(page, {"value": "2"}, "edit", ("gone",))
    assert (answer.status, "was deleted while you were editing" in answer.text) == (409, True)
    assert world.get(("gone",)).versionstamp is None
    assert world.send(answer.text, {}, "edit", ("gone",)).status == 303
    assert world.get(("gone",)).value == 2


def test_a_key_that_is_there_is_not_created(world: World) -> None:
    world.set(("there",), "before")
    answer = world.create('["there"]', '"after"')
    assert (answer.status, "This key already exists" in answer.text) == (409, True)
    assert "before" in answer.text
    assert world.get(("there",)).value == "before"
    assert world.send(answer.text, {}, "edit", ("there",)).status == 303
    assert world.get(("there",)).value == "after"


def test_what_was_changed_meanwhile_is_not_deleted(world: World) -> None:
    world.set(("kept",), "what was seen")
    page = world.page("entry", ("kept",)).text
    world.set(("kept",), "what is there")
    answer = world.send(page, {}, "delete", ("kept",))
    assert answer.status == 409
    assert "what was seen" in answer.text
    assert "what is there" in answer.text
    assert world.get(("kept",)).value == "what is there"
    assert world.send(answer.text, {}, "delete", ("kept",)).status == 303
    assert world.get(("kept",)).versionstamp is None
    assert world.send(answer.text, {}, "delete", ("kept",)).status == 409


def test_a_real_deno_that_writes_meanwhile_is_not_overwritten(world: World, tmp_path: Path) -> None:
    script = tmp_path / "race.ts"
    script.write_text(
        "const kv = await Deno.openKv(Deno.args[0]); await kv.set(['deno'], new Map([['from', 'deno']])); kv.close();"
    )
    login = access(world.repo, "login")
    world.create('["deno"]', "1")
    page = world.page("edit", ("deno",)).text
    deno(script, login.url, add=login.variables)
    answer = world.send(page, {"value": "2"}, "edit", ("deno",))
    assert (answer.status, "$map" in answer.text) == (409, True)


@pytest.mark.parametrize("stamp", ["", "absent", "0" * 20, "f" * 20, "x", "1" * 10_000, "\u202e"])
def test_no_made_up_versionstamp_overwrites_anything(world: World, stamp: str) -> None:
    world.set(("guarded",), "kept")
    page = world.page("edit", ("guarded",)).text
    for name, fields in (("edit", {"value": "1"}), ("delete", {})):
        for seen in ("", "AAAA", "x" * 9, "é"):
            sent = {**fields, "versionstamp": stamp, "seen": seen}
            assert world.send(page, sent, name, ("guarded",)).status == 409, (name, seen)
    assert world.get(("guarded",)).value == "kept"


def test_of_many_who_change_the_same_thing_at_once_one_does(world: World, home: Path) -> None:
    world.set(("crowd",), 0)
    page = world.page("edit", ("crowd",)).text
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda number: world.send(page, {"value": str(number)}, "edit", ("crowd",)), range(1, 9))
        )
    winners = [number for number, answer in enumerate(answers, 1) if answer.status == 303]
    assert sorted(answer.status for answer in answers) == [303] + [409] * 7
    assert world.get(("crowd",)).value == winners[0]


# who may


def test_who_may_only_read_finds_no_form(world: World) -> None:
    world.set(("read",), 1)
    reader = Visitor(world.server.base)
    assert reader.log_in(token(world.repo, "--admin", "--read-only")).status == 303
    key = encode(("read",)).hex()
    for page in ("keys", f"entry?key={key}", "entry?key=99"):
        text = reader.get(f"{world.path}/{page}").text
        assert not re.search(r'href="(edit|new)\?|action="(delete|edit|new|undo)', text), page
    for page in (f"edit?key={key}", "new"):
        assert reader.get(f"{world.path}/{page}").status == 303
    for page in (f"edit?key={key}", "new", f"delete?key={key}", "undo"):
        assert reader.post(f"{world.path}/{page}", {"csrf": reader.csrf, "value": "2"}).status == 403, page
    assert world.get(("read",)).value == 1


def test_what_is_not_connected_is_not_changed(world: World) -> None:
    git(world.repo, "branch", "leaving")
    ok(world.repo, "reconcile")
    path = f"/databases/{database_of(world.repo, 'git-branch/leaving')['id']}"
    visitor = world.visitor
    fields = {"csrf": visitor.csrf, "key": '["a"]', "value": "1"}
    assert visitor.post(f"{path}/new", fields).status == 303
    git(world.repo, "branch", "-D", "leaving")
    ok(world.repo, "reconcile")
    before = len(events(Path(world.server.home), "key.create"))
    for page in ("new", f"edit?key={encode(('a',)).hex()}", f"delete?key={encode(('a',)).hex()}", "undo"):
        answer = visitor.post(f"{path}/{page}", fields)
        said = answer if answer.status in (409, 410) else visitor.get(answer.location)
        assert "provisioner database" in said.text, page
    assert len(events(Path(world.server.home), "key.create")) == before


def test_who_watches_hears_of_a_change_at_once(world: World) -> None:
    login = access(world.repo, "login")
    with open_kv(login.url, access_token=login.token) as kv, kv.watch([("watched",)]) as states:
        assert next(states)[0].versionstamp is None
        world.create('["watched"]', '{"$u64": "5"}')
        assert next(states)[0].value == KvU64(5)
        kv.atomic().sum(("watched",), 2).commit()
        assert next(states)[0].value == KvU64(7)
