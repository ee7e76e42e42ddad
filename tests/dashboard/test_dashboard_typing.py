"""What is typed into the forms of the explorer: each type, what is wrong, what is large and what is hostile."""

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
from changing_world import World, form
from connect_world import access, deno
from dashboard_world import visited
from hypothesis import given, settings
from kv_notation import value_of
from kv_strategies import values
from support import shop, until
from v8serialize.jstypes import JSError

from provisioner.dashboard.values import value_form
from provisioner.kv.codec.key import encode
from provisioner.kv.codec.value import encode as stored
from provisioner.kv.model import NEVER

HOSTILE = "<script>alert(1)</script>\"'&lt;\u202eevil\u2066\u200f{{7*7}}</textarea>"


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[World]:
    repo = shop(shared_home.parent / "shop", "login")
    with visited(shared_home) as (server, visitor):
        yield World(server, visitor, repo)


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"value": '{"a": 1'}, "line 1, column"),
        ({"value": '{\r\n"a": 1,\r\n}'}, "line 3, column 1"),
        ({"value": "text"}, "quotation marks"),
        ({"value": ""}, "quotation marks"),
        ({"value": "[" * 10_000}, "nested too deeply"),
        ({"value": '{"$nonsense": 1}'}, "is not a notation"),
        ({"value": '{"$u64": "18446744073709551616"}'}, "$u64 cannot be"),
        ({"value": '[{"$u64": "1"}]'}, "inside of another value"),
        ({"value": "0g", "spelling": "hex"}, "pairs of the digits"),
        ({"value": json.dumps("x" * 65_536)}, "a value has at most 65536 bytes"),
        ({"expiry": "soon"}, "is not a duration"),
        ({"expiry": "2001-01-01T00:00:00Z"}, "has passed"),
        ({"expiry": "2030-01-01T00:00:00"}, "has no time zone"),
        ({"expiry": "99999999d"}, "is too long"),
        ({"key": "users"}, "a key is a JSON array"),
        ({"key": "[]"}, "at least one part"),
        ({"key": "[null]"}, "part"),
        ({"key": json.dumps(["x" * 2048])}, "a key to write has at most 2048 bytes"),
        ({"key": "x", "value": "y", "expiry": "z"}, "is not a duration"),
    ],
    ids=lambda given: str(given)[:40],
)
def test_what_cannot_be_stored_stays_in_the_form_with_what_is_wrong(
    world: World, fields: dict[str, str], says: str
) -> None:
    world.set(("form",), 1)
    value_form = {"key": '["wrong"]', "value": "1", "spelling": "json", "expiry": "", **fields}
    answers = [world.create(**value_form)]
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
    ('{"$regexp": ["(?<n>a)", "gy"]}', "json", "v instanceof RegExp && String(v) === '/(?<n>a)/gy'"),
    ('[1, [2], "\\u00e9\\ud83d\\ude00\\ud800"]', "json", "v[2] === '\\u00e9\\u{1f600}\\ud800' && v[1][0] === 2"),
    ('{"a": {"b": [true, {"$bytes": "AQ=="}]}}', "json", "v.a.b[1][0] === 1"),
    ('{"$object": {"$set": 1}}', "json", "v['$set'] === 1"),
    ('{"$set": [1, "1", [1]]}', "json", "v instanceof Set && v.size === 3 && v.has('1')"),
    ('{"$set": ["z", 9, "a", true, 1]}', "json", 'JSON.stringify([...v]) === \'["z",9,"a",true,1]\''),
    ('{"$map": [[{"a": 1}, 1], [2, {"$undefined": true}]]}', "json", "v instanceof Map && v.has(2) && v.size === 2"),
    (json.dumps("x" * 65_530), "json", "v === 'x'.repeat(65530)"),
    (json.dumps(HOSTILE), "json", f"v === {json.dumps(HOSTILE)}"),
)
THEIRS: tuple[tuple[str, str], ...] = (
    ("new Float64Array([1])", "no notation"),
    ("new ArrayBuffer(2)", "no notation"),
    ("[1, , 3]", "no notation"),
    ("{a: new Error('x')}", "no notation"),
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
    select = "select v, v_encoding from kv where k = ?"
    with closing(sqlite3.connect(world.file)) as connection:
        for number, (text, _, _) in enumerate(OURS):
            key = ("type", number)
            before = connection.execute(select, (encode(key),)).fetchall()
            shown = form(world.page("edit", key).text)
            assert world.send(world.page("edit", key).text, {"expiry": "1h"}, "edit", key).status == 303
            assert connection.execute(select, (encode(key),)).fetchall() == before, text
            again = json.dumps(["again", number])
            assert world.create(again, shown["value"], shown["spelling"]).status == 303
            assert connection.execute(select, (encode(("again", number)),)).fetchall() == before, text
        for number, (text, why) in enumerate(THEIRS):
            key = ("theirs", number)
            before = connection.execute(select, (encode(key),)).fetchall()
            page = world.page("edit", key).text
            assert "<textarea" not in page, text
            assert why in page, text
            assert world.send(page, {"expiry": "1h"}, "edit", key).status == 303
            assert connection.execute(select, (encode(key),)).fetchall() == before, text
            assert "in 59 min" in world.page("entry", key).text or "in 1 h" in world.page("entry", key).text


@settings(max_examples=200)
@given(values)
def test_what_is_offered_for_editing_is_all_of_the_value(json: Any) -> None:
    before = stored(value_of(json))
    row = (b"", *before, 1, NEVER)
    if why := value_form.fixed(row):
        assert re.search("no notation|several places|contains itself|so often", why), json
        return
    spelling, text = value_form.spelled(row)
    assert value_form.stored(spelling, text.replace("\n", "\r\n")) == before


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
