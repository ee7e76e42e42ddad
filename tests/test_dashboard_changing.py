"""Changing what is in a database from the dashboard: nothing is overwritten that was not seen, and nothing is lost."""

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
from connect_world import Server, access, deno, serving, token
from dashboard_world import Answer, Visitor, code
from support import database_of, events, files, git, ok, shop, until
from v8serialize.jstypes import JSArray, JSError

from provisioner.kv import KvU64, open_kv
from provisioner.kv.key import encode

HOSTILE = "<script>alert(1)</script>\"'&lt;\u202eevil\u2066\u200f{{7*7}}</textarea>"


class World:
    """A server, somebody who is logged in, and the database of the branch 'login'."""

    def __init__(self, server: Server, visitor: Visitor, repo: Path) -> None:
        self.server, self.visitor, self.repo = server, visitor, repo
        self.file = files(repo)["login"]
        self.path = f"/databases/{database_of(repo, 'git-branch/login')['id']}"

    def get(self, key: tuple[Any, ...]) -> Any:
        with open_kv(str(self.file)) as kv:
            return kv.get(key)

    def set(self, key: tuple[Any, ...], value: Any, **how: Any) -> None:
        with open_kv(str(self.file)) as kv:
            kv.set(key, value, **how)

    def page(self, name: str, key: tuple[Any, ...]) -> Answer:
        return self.visitor.get(f"{self.path}/{name}?key={encode(key).hex()}")

    def create(self, key: str, value: str, spelling: str = "json", expiry: str = "") -> Answer:
        fields = {"key": key, "value": value, "spelling": spelling, "expiry": expiry}
        return self.visitor.post(f"{self.path}/new", {"csrf": self.visitor.csrf, **fields})

    def send(self, page: str, fields: dict[str, str], name: str, key: tuple[Any, ...]) -> Answer:
        """What a browser sends of the form on a page, with these fields filled in."""
        sent = {"csrf": self.visitor.csrf, **form(page), **fields}
        return self.visitor.post(f"{self.path}/{name}?key={encode(key).hex()}", sent)

    def undo(self, answer: Answer) -> Answer:
        """Press the button of the note on the page that an answer leads to."""
        assert answer.status == 303, answer.text
        page = self.visitor.get(answer.location).text
        found = re.findall(r'name="change" value="(\w+)"', page[: page.index("</nav>", page.index("<main"))])
        return self.visitor.post(f"{self.path}/undo", {"csrf": self.visitor.csrf, "change": found[-1]})


def form(page: str) -> dict[str, str]:
    """The fields of the form in the content of a page, as a browser would send them."""
    content = page[page.index("<main") :]
    found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', content))
    for value, attributes in re.findall(r'<input value="([^"]*)"([^>]*)>', content):
        found[re.search(r'name="(\w+)"', attributes)[1]] = value  # type: ignore[index]
    for name, value in re.findall(r'<textarea[^>]*name="(\w+)"[^>]*>\n(.*?)</textarea>', content, re.DOTALL):
        found[name] = value.replace("\r\n", "\n").replace("\n", "\r\n")
    for value in re.findall(r'name="spelling" value="(\w+)" checked', content):
        found["spelling"] = value
    return {name: html.unescape(value) for name, value in found.items()}


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[World]:
    repo = shop(shared_home.parent / "shop", "login")
    with serving(shared_home) as server:
        visitor = Visitor(server.base)
        visitor.log_in(code(shared_home))
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
    stored = "select v, v_encoding, expiration_ms from kv where k = ?"
    with closing(sqlite3.connect(world.file)) as connection:
        before = connection.execute(stored, (encode(("odd",)),)).fetchall()
        world.undo(world.send(world.page("entry", ("odd",)).text, {}, "delete", ("odd",)))
        assert connection.execute(stored, (encode(("odd",)),)).fetchall() == before != []


def test_what_was_changed_since_is_not_taken_back(world: World) -> None:
    answer = world.create('["since"]', "1")
    world.set(("since",), 2)
    refused = world.undo(answer)
    assert (refused.status, "was changed meanwhile" in refused.text) == (409, True)
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
    assert (answer.status, "deleted meanwhile" in answer.text) == (409, True)
    assert world.get(("gone",)).versionstamp is None
    assert world.send(answer.text, {}, "edit", ("gone",)).status == 303
    assert world.get(("gone",)).value == 2


def test_a_key_that_is_there_is_not_created(world: World) -> None:
    world.set(("there",), "before")
    answer = world.create('["there"]', '"after"')
    assert (answer.status, "such a key already" in answer.text) == (409, True)
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


# what is typed


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"value": '{"a": 1'}, "line 1, column"),
        ({"value": '{\r\n"a": 1,\r\n}'}, "line 3, column 1"),
        ({"value": "text"}, "quotation marks"),
        ({"value": ""}, "quotation marks"),
        ({"value": "[" * 10_000}, "nested too deeply"),
        ({"value": '{"$nonsense": 1}'}, "is no notation"),
        ({"value": '{"$u64": "18446744073709551616"}'}, "$u64 cannot be"),
        ({"value": '[{"$u64": "1"}]'}, "inside of another value"),
        ({"value": "0g", "spelling": "hex"}, "pairs of the digits"),
        ({"value": json.dumps("x" * 65_536)}, "a value has at most 65536 bytes"),
        ({"expiry": "soon"}, "is no time"),
        ({"expiry": "2001-01-01T00:00:00Z"}, "has passed"),
        ({"expiry": "2030-01-01T00:00:00"}, "has no time zone"),
        ({"expiry": "99999999d"}, "too long a time"),
        ({"key": "users"}, "a key is a JSON array"),
        ({"key": "[]"}, "at least one part"),
        ({"key": "[null]"}, "part"),
        ({"key": json.dumps(["x" * 2048])}, "a key to write has at most 2048 bytes"),
        ({"key": "x", "value": "y", "expiry": "z"}, "is no time"),
    ],
    ids=lambda given: str(given)[:40],
)
def test_what_cannot_be_stored_stays_in_the_form_with_what_is_wrong(
    world: World, fields: dict[str, str], says: str
) -> None:
    world.set(("form",), 1)
    typed = {"key": '["wrong"]', "value": "1", "spelling": "json", "expiry": "", **fields}
    answers = [world.create(**typed)]
    if "key" not in fields:
        answers.append(world.send(world.page("edit", ("form",)).text, fields, "edit", ("form",)))
    for answer in answers:
        assert answer.status == 400
        shown = html.unescape(answer.text)
        assert says in shown
        assert 'aria-invalid="true"' in answer.text
        kept = form(answer.text)
        for name, value in fields.items():
            assert kept[name] == value, name
    assert world.get(("form",)).value == 1
    assert world.get(("wrong",)).versionstamp is None


@pytest.mark.parametrize("text", ["2030-01-31T12:00:00Z", "7d", "2030-01-31T12:00:00.123+02:00"])
def test_an_expiry_is_set_kept_and_removed(world: World, text: str) -> None:
    world.create('["passing"]', "1", expiry=text)
    page = world.page("edit", ("passing",)).text
    shown = form(page)["expiry"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", shown)
    world.send(page, {"value": "2"}, "edit", ("passing",))
    page = world.page("edit", ("passing",)).text
    assert form(page)["expiry"] == shown
    world.send(page, {"expiry": ""}, "edit", ("passing",))
    page = world.page("edit", ("passing",)).text
    assert form(page)["expiry"] == ""
    world.send(world.page("entry", ("passing",)).text, {}, "delete", ("passing",))


def test_what_expires_is_deleted_by_the_server_in_time(world: World) -> None:
    assert world.create('["short"]', "1", expiry="1s").status == 303
    until(lambda: world.get(("short",)).versionstamp is None)


OURS: tuple[tuple[str, str, str], ...] = (
    ('"text"', "json", "v === 'text'"),
    ("a 'text'\r\n<b>", "text", "v === \"a 'text'\\n<b>\""),
    ("", "text", "v === ''"),
    ("1.5", "json", "v === 1.5"),
    ("-0.0", "json", "Object.is(v, -0)"),
    ("9007199254740993", "json", "v === 9007199254740992"),
    ('{"$number": "NaN"}', "json", "Number.isNaN(v)"),
    ('{"$number": "-Infinity"}', "json", "v === -Infinity"),
    ("true", "json", "v === true"),
    ("null", "json", "v === null"),
    ('{"$undefined": true}', "json", "v === undefined"),
    ('{"$bigint": "-1180591620717411303424"}', "json", "v === -(2n ** 70n)"),
    ('{"$bigint": "0xffffffffffffffffffff"}', "json", "v === 2n ** 80n - 1n"),
    ('{"$u64": "18446744073709551615"}', "json", "v instanceof Deno.KvU64 && v.value === 2n ** 64n - 1n"),
    ('{"$bytes": "AAE="}', "json", "v instanceof Uint8Array && v.join() === '0,1'"),
    ("00 01\r\nff", "hex", "v instanceof Uint8Array && v.join() === '0,1,255'"),
    ('{"$date": "2026-01-02T03:04:05.678Z"}', "json", "v.getTime() === Date.UTC(2026, 0, 2, 3, 4, 5, 678)"),
    ('{"$date": null}', "json", "v instanceof Date && Number.isNaN(v.getTime())"),
    ('{"$regexp": ["a+", "is"]}', "json", "v instanceof RegExp && String(v) === '/a+/is'"),
    ('[1, [2], "\\u00e9\\ud83d\\ude00\\ud800"]', "json", "v[2] === '\\u00e9\\u{1f600}\\ud800' && v[1][0] === 2"),
    ('{"a": {"b": [true, {"$bytes": "AQ=="}]}}', "json", "v.a.b[1][0] === 1"),
    ('{"$object": {"$set": 1}}', "json", "v['$set'] === 1"),
    ('{"$set": [1, "1", [1]]}', "json", "v instanceof Set && v.size === 3 && v.has('1')"),
    ('{"$map": [[{"a": 1}, 1], [2, {"$undefined": true}]]}', "json", "v instanceof Map && v.has(2) && v.size === 2"),
    (json.dumps("x" * 65_530), "json", "v === 'x'.repeat(65530)"),
    (json.dumps(HOSTILE), "json", f"v === {json.dumps(HOSTILE)}"),
)
THEIRS: tuple[tuple[str, str], ...] = (
    ("new Float64Array([1])", "no notation"),
    ("new ArrayBuffer(2)", "no notation"),
    ("[1, , 3]", "no notation"),
    ("{a: new Error('x')}", "no notation"),
    ("/a+/g", "no notation"),
    ("new Number(1)", "no notation"),
    ("(() => { const o = {}; o.o = o; return o; })()", "contains itself"),
    ("(() => { const o = {}; return [o, o]; })()", "several places"),
    ("(() => { const b = new Uint8Array(9); return [b, b]; })()", "several places"),
)


def test_each_type_goes_through_the_form_to_a_real_deno_and_back(world: World, tmp_path: Path) -> None:
    """What was typed is what Deno reads; what the form shows of it and sends unchanged stays bit by bit; what Deno
    writes and JSON cannot say is not offered, and its expiry can be changed all the same."""
    for number, (text, spelling, _) in enumerate(OURS):
        assert world.create(json.dumps(["type", number]), text, spelling).status == 303, text
    script = tmp_path / "types.ts"
    checks = "\n".join(
        f"{{ const v = (await kv.get(['type', {number}])).value; if (!({check})) bad.push({number}); }}"
        for number, (_, _, check) in enumerate(OURS)
    )
    writes = "\n".join(f"await kv.set(['theirs', {n}], {expression});" for n, (expression, _) in enumerate(THEIRS))
    script.write_text(
        "const kv = await Deno.openKv(Deno.args[0]); const bad = [];\n"
        f"{checks}\n{writes}\nconsole.log(JSON.stringify(bad)); kv.close();"
    )
    login = access(world.repo, "login")
    assert json.loads(deno(script, login.url, add=login.variables)) == []
    stored = "select v, v_encoding from kv where k = ?"
    with closing(sqlite3.connect(world.file)) as connection:
        for number, (text, _, _) in enumerate(OURS):
            key = ("type", number)
            before = connection.execute(stored, (encode(key),)).fetchall()
            shown = form(world.page("edit", key).text)
            assert world.send(world.page("edit", key).text, {"expiry": "1h"}, "edit", key).status == 303
            assert connection.execute(stored, (encode(key),)).fetchall() == before, text
            again = json.dumps(["again", number])
            assert world.create(again, shown["value"], shown["spelling"]).status == 303
            assert connection.execute(stored, (encode(("again", number)),)).fetchall() == before, text
        for number, (text, why) in enumerate(THEIRS):
            key = ("theirs", number)
            before = connection.execute(stored, (encode(key),)).fetchall()
            page = world.page("edit", key).text
            assert "<textarea" not in page, text
            assert why in page, text
            assert world.send(page, {"expiry": "1h"}, "edit", key).status == 303
            assert connection.execute(stored, (encode(key),)).fetchall() == before, text
            assert "in 59 min" in world.page("entry", key).text or "in 1 h" in world.page("entry", key).text


def test_the_expiry_of_what_cannot_be_edited_does_not_overwrite_either(world: World) -> None:
    world.set(("fixed",), JSError("seen"))
    page = world.page("edit", ("fixed",)).text
    world.set(("fixed",), JSError("newer"))
    answer = world.send(page, {"expiry": "1h"}, "edit", ("fixed",))
    assert (answer.status, form(answer.text)["expiry"]) == (409, "1h")
    assert world.send(answer.text, {}, "edit", ("fixed",)).status == 303
    assert world.get(("fixed",)).value.message == "newer"


def test_what_is_large_or_hostile_is_text_in_every_form(world: World) -> None:
    parts = [HOSTILE, HOSTILE * 5]
    for number, value in enumerate((HOSTILE, HOSTILE * 300, "\x01" * 60_000, '"' * 60_000, "é" * 60_000)):
        key = (*parts, number)
        assert world.create(json.dumps(list(key)), json.dumps(value)).status == 303
        page = world.page("edit", key)
        world.set(key, f"{value[:20_000]}!")
        conflict = world.send(page.text, {}, "edit", key)
        assert (page.status, conflict.status) == (200, 409)
        assert world.send(conflict.text, {}, "edit", key).status == 303
        assert world.get(key).value == value
        deleted = world.send(world.page("entry", key).text, {}, "delete", key)
        listed = world.visitor.get(deleted.location)
        for answer in (page, conflict, listed, world.page("entry", key), world.visitor.get("/activity")):
            assert len(answer.text) < 1_000_000
            assert not re.search("<script>|\u202e|\u2066|\u200f", answer.text)
            assert answer.text.count("</textarea>") <= 1


def test_what_breaks_a_form_is_kept_as_it_was_typed(world: World) -> None:
    answer = world.create('["typed"', f"</textarea>\r\n{HOSTILE}")
    assert answer.status == 400
    assert "<script>alert" not in answer.text
    assert form(answer.text)["value"] == f"</textarea>\r\n{HOSTILE}"


def test_bytes_that_are_no_key_can_be_deleted_and_put_back_but_not_made(world: World) -> None:
    key = b"\x02form\x00\x99"
    with closing(sqlite3.connect(world.file)) as connection:
        connection.execute("insert into kv (k, v, v_encoding, version) values (?, x'ff00', 7, 1)", (key,))
        connection.commit()
        page = world.visitor.get(f"{world.path}/entry?key={key.hex()}")
        sent = {"csrf": world.visitor.csrf, **form(page.text)}
        deleted = world.visitor.post(f"{world.path}/delete?key={key.hex()}", sent)
        assert world.undo(deleted).status == 303
        found = connection.execute("select v, v_encoding from kv where k = ?", (key,)).fetchall()
        assert found == [(b"\xff\x00", 7)]
    other = f"{world.path}/edit?key=99"
    assert world.visitor.post(other, {"csrf": world.visitor.csrf, "value": "1"}).status == 404
    for wrong in ("zz", "%00", "..%2f"):
        assert world.visitor.get(f"{world.path}/edit?key={wrong}").status == 404, wrong


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
        assert (answer.status, "provisioner database" in answer.text) in ((410, True), (409, True)), page
    assert len(events(Path(world.server.home), "key.create")) == before


def test_who_watches_hears_of_a_change_at_once(world: World) -> None:
    login = access(world.repo, "login")
    with open_kv(login.url, access_token=login.token) as kv, kv.watch([("watched",)]) as states:
        assert next(states)[0].versionstamp is None
        world.create('["watched"]', '{"$u64": "5"}')
        assert next(states)[0].value == KvU64(5)
        kv.atomic().sum(("watched",), 2).commit()
        assert next(states)[0].value == KvU64(7)
