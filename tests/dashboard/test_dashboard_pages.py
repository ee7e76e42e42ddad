"""What the dashboard's pages show: of names, keys and values nothing but text, and of many only some at a time."""

from __future__ import annotations

import datetime
import html
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from dashboard_world import Visitor, visited
from support import add_branches, database_of, files, git, ok, provisioner, shop

from provisioner.kv import BigInt, KvU64, open_kv
from provisioner.kv.codec.key import encode
from provisioner.kv.model import UNDEFINED

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img/src=x/onerror=alert(1)>",
    "{{7919*7919}}{%raw%}",
    "\u202eevil\u2066\u200f",
    "&lt;b&gt;",
    "javascript:alert(1)",
)


@pytest.fixture(scope="module")
def world(shared_home: Path) -> Iterator[tuple[Visitor, Path]]:
    repo = shop(shared_home.parent / "shop", "login")
    with visited(shared_home) as (_, visitor):
        yield visitor, repo


@pytest.fixture(autouse=True)
def home(shared_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROVISIONER_HOME", str(shared_home))
    return shared_home


def shows(text: str, hostile: str) -> bool:
    """Is it there as text, and in no other way? What steers the eye is escaped."""
    assert hostile not in text or not re.search(r"[<>\"'\u202e\u2066\u200f]", hostile)
    plain = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in hostile)
    return plain in html.unescape(text)


def path_of(repo: Path, timeline: str) -> str:
    return f"/databases/{database_of(repo, timeline)['id']}"


# names


@pytest.mark.parametrize("name", ["<b>x</b>", "\"quoted'", "{{7+7}}", "a\u202eb\u200fc", "é\u0301", "x&y;"])
def test_the_name_of_a_branch_is_text_everywhere(world: tuple[Visitor, Path], name: str) -> None:
    visitor, repo = world
    git(repo, "branch", name)
    ok(repo, "reconcile")
    page = path_of(repo, f"git-branch/{name}")
    found = re.search(r'href="(/timelines/[^"]+)"', visitor.get(page).text)
    assert found is not None
    for path in ("/apps/shop", "/instances/default", "/activity", page, f"{page}/keys", f"{page}/copies", found[1]):
        answer = visitor.get(path)
        assert answer.status == 200
        assert shows(answer.text, name), path


def test_the_picture_ends_now_however_young_its_timelines_are(world: tuple[Visitor, Path]) -> None:
    visitor, _ = world
    page = visitor.get("/apps/shop").text
    (x, label) = re.findall(r'<text class="when" x="([\d.]+)"[^>]*>([^<]*)</text>', page)[-1]
    ends = [float(end) for end in re.findall(r'class="life"[^>]* x2="([\d.]+)"', page)]
    assert (label, max(ends)) == ("now", float(x))


def test_a_branch_whose_name_is_no_utf_8_is_shown_escaped(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    git(repo, "branch", b"bad-\xff-name")
    ok(repo, "reconcile")
    for path in ("/apps/shop", "/instances/default", "/activity"):
        assert "bad-\\xff-name" in visitor.get(path).text
    assert "bad-" in visitor.get("/apps/shop?q=BAD-").text


def test_of_secrets_only_the_names_are_shown(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    ok(repo, "var", "set", "SHOWN=<i>value</i>")
    ok(repo, "var", "set", "--secret", "HIDDEN=s3cretvalue")
    text = visitor.get("/apps/shop/variables").text
    assert shows(text, "<i>value</i>")
    assert "HIDDEN" in text
    assert "s3cretvalue" not in text


def test_an_error_is_shown_with_what_to_do(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    git(repo, "branch", "broken")
    ok(repo, "reconcile")
    page = path_of(repo, "git-branch/broken")
    file = files(repo)["broken"]
    content = file.read_bytes()
    file.write_bytes(b"this is no database" * 100)
    assert provisioner(repo, "reconcile").returncode == 1
    name = database_of(repo, "git-branch/broken")["name"]
    assert f'action="{page}/fix"' in visitor.get(page).text
    assert 'class="pill error"' in visitor.get("/").text
    assert name in visitor.get("/activity").text
    refused = visitor.get(f"{page}/keys")
    assert (refused.status, f"provisioner database show {name}" in refused.text) == (409, True)
    file.write_bytes(content)
    ok(repo, "database", "fix", name)
    assert visitor.get(f"{page}/keys").status == 200


# many


def test_a_hundred_timelines_are_a_page(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    add_branches(repo, *(f"many/{number:03}" for number in range(150)))
    ok(repo, "reconcile")
    found: set[str] = set()
    path = "/apps/shop?q=many/"
    for _ in range(2):
        text = visitor.get(path).text
        found |= set(re.findall(r"git-branch/(many/\d+)</bdi>", text))
        path = f"/apps/shop?q=many/&skip={len(found)}"
    assert len(found) == 150
    assert "more databases are only in the table" in visitor.get("/apps/shop").text
    assert visitor.get("/apps/shop?skip=100000").status == 200


# keys and values


def tell(file: Path, entries: dict[tuple[Any, ...], Any]) -> None:
    with open_kv(str(file)) as kv:
        for key, value in entries.items():
            kv.set(key, value)


def test_keys_and_values_are_text_everywhere(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    page = path_of(repo, "git-branch/login")
    tell(files(repo)["login"], {("hostile", text, "below"): text for text in HOSTILE})
    tell(files(repo)["login"], {("hostile", text): {text: [text]} for text in HOSTILE})
    for text in HOSTILE:
        prefix = quote(json.dumps(["hostile", text]))
        for query in ('prefix=["hostile"]', f"prefix={prefix}", f"as=list&prefix={prefix}", f"prefix={quote(text)}"):
            answer = visitor.get(f"{page}/keys?{query}")
            assert answer.status == (400 if query == f"prefix={quote(text)}" else 200), query
            assert "62710561" not in answer.text
            if answer.status == 200:
                assert shows(answer.text, json.dumps(text, ensure_ascii=False)[1:-1]), query
            else:
                assert not re.search("[<>\u202e\u2066]", text) or text not in answer.text, query
        assert "below" in visitor.get(f"{page}/keys?prefix={prefix}").text


VALUES: tuple[tuple[Any, str, str], ...] = (
    ("text", "string", '"text"'),
    (1.5, "number", "1.5"),
    (float("nan"), "number", '"$number": "NaN"'),
    (True, "boolean", "true"),
    (None, "null", "null"),
    (UNDEFINED, "undefined", '"$undefined": true'),
    (BigInt(2**70), "bigint", '"$bigint": "1180591620717411303424"'),
    (KvU64(2**64 - 1), "KvU64", '"$u64": "18446744073709551615"'),
    (b"\x00\x01Hello", "Uint8Array", "00 01 48 65 6c 6c 6f                             ..Hello"),
    (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "Date", '"$date": "2026-01-02T00:00:00.000Z"'),
    (re.compile("a+", re.IGNORECASE), "RegExp", '"$regexp"'),
    ([1, [2]], "Array", "2"),
    ({"a": {"b": 1}}, "object", '"b": 1'),
    ({1, 2}, "Set", '"$set"'),
)


@pytest.mark.parametrize(("value", "kind", "text"), VALUES, ids=[kind for _, kind, _ in VALUES])
def test_a_value_of_each_type_is_shown(world: tuple[Visitor, Path], value: Any, kind: str, text: str) -> None:
    visitor, repo = world
    page = path_of(repo, "git-branch/login")
    tell(files(repo)["login"], {("typed", kind): value})
    listed = visitor.get(f'{page}/keys?as=list&prefix=["typed"]').text
    found = re.search(rf'href="(entry\?key=[0-9a-f]+)"[^>]*><code><bdi>\[&#34;typed&#34;, &#34;{kind}&#34;\]', listed)
    assert found is not None
    shown = html.unescape(visitor.get(f"{page}/{found[1]}").text)
    assert f"<dd>{kind}</dd>" in shown
    assert text in shown


def test_what_is_large_is_cut_and_what_cannot_be_read_says_so(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    page, file = path_of(repo, "git-branch/login"), files(repo)["login"]
    tell(file, {("large", number): "<" * 65_000 for number in range(60)})
    with closing(sqlite3.connect(file)) as connection, connection:
        add = "insert or replace into kv (k, v, v_encoding, version) values (?, ?, ?, 1)"
        connection.execute(add, (b"\x02large\x00\x02bad\x00", b"\xff\x0fnonsense", 1))
        connection.execute(add, (b"\x02large\x00\x02odd\x00", b"x", 9))
        connection.execute(add, (b"\x02large\x00\x99", b"x", 3))
    for query in ('prefix=["large"]', 'as=list&prefix=["large"]', 'as=list&reverse=yes&prefix=["large"]'):
        answer = visitor.get(f"{page}/keys?{query}")
        assert answer.status == 200
        assert len(answer.text) < 200_000
        assert ("bytes 026c61726765009" in answer.text) == ("as=list&p" not in query)
        assert answer.text.count("unreadable") == (0 if "reverse" in query else 2)
    entry = visitor.get(f"{page}/entry?key={encode(('large', 59)).hex()}")
    assert entry.status == 200
    assert len(entry.text) < 1_000_000
    broken = visitor.get(f"{page}/entry?key={encode(('large', 'bad')).hex()}")
    assert "not what V8 serializes" in broken.text
    assert visitor.get(f"{page}/entry?key=zz").status == 404
    assert "Nothing is stored under this key" in visitor.get(f"{page}/entry?key=00").text


def test_an_entry_says_when_it_expires(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    with open_kv(str(files(repo)["login"])) as kv:
        kv.set(("passing",), 1, expire_in=3_600_000)
    text = visitor.get(f"{path_of(repo, 'git-branch/login')}/entry?key={encode(('passing',)).hex()}").text
    assert re.search(r"<dt>Expires</dt><dd><time [^>]*>in (59 min|1 h)</time>", text)


def test_the_tree_and_the_list_show_every_key_once(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    page = path_of(repo, "git-branch/login")
    keys: list[tuple[Any, ...]] = [("walk", number) for number in range(130)]
    keys += [("walk", number, "below", deep) for number in range(0, 130, 7) for deep in range(3)]
    keys += [
        ("walk", "a"),
        ("walk", "a\0b"),
        ("walk", "a\0b", 1),
        ("walk", b"a"),
        ("walk", True),
        ("walk", BigInt(5), 1),
    ]
    tell(files(repo)["login"], dict.fromkeys(keys, 1))
    tell(files(repo)["login"], {("walk", True): 1})  # for Python the same key as 1
    for view, expected in (("prefix", 130 + 5), ("as=list&prefix", len(keys))):
        found: list[str] = []
        query = f'{view}=["walk"]'
        while query:
            text = html.unescape(visitor.get(f"{page}/keys?{query}").text)
            found += re.findall(r'<th scope="row" data-label="(?:Part|Key)">(.*?)</th>', text)
            following = re.search(r'rel="next" href="\?([^"]+)"', text)
            query = following[1] if following else ""
        assert len(found) == len(set(found)) == expected, view


def test_a_range_of_keys_is_listed_from_either_end(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    page = path_of(repo, "git-branch/login")
    tell(files(repo)["login"], {("range", number): number for number in range(10)})
    for query, expected in (
        ('start=["range",3]&end=["range",6]', ["3", "4", "5"]),
        ('start=["range",3]&end=["range",6]&reverse=yes', ["5", "4", "3"]),
        ('prefix=["range"]&start=["range",8]', ["8", "9"]),
    ):
        text = html.unescape(visitor.get(f"{page}/keys?as=list&{query}").text)
        assert re.findall(r'\["range", (\d)\]</bdi>', text) == expected, query
    for wrong in ("start=x&end=y", 'start=["b"]&end=["a"]', 'prefix=["range"]&cursor=%21', 'prefix={"a":1}'):
        assert visitor.get(f"{page}/keys?as=list&{wrong}").status == 400, wrong


def test_since_the_fork_is_what_was_done_since_then_on_either_side(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    source = files(repo)["main"]
    tell(source, {("k", number): number for number in range(5)})
    git(repo, "branch", "forked")
    ok(repo, "assign", "default", "--new-branch", "fork:production")
    ok(repo, "reconcile")
    ok(repo, "assign", "default", "--new-branch", "empty")
    tell(files(repo)["forked"], {("k", 1): "here", ("new",): 1})
    tell(source, {("k", 2): "there"})
    with open_kv(str(files(repo)["forked"])) as kv:
        kv.delete(("k", 3))
    page = path_of(repo, "git-branch/forked")
    text = html.unescape(visitor.get(f"{page}/changes").text)
    assert "1 added, 2 changed, 1 removed" in text
    assert re.search(r'"k", 2\].*?changed</span> <span class="quiet">in the source', text, re.DOTALL)
    tell(files(repo)["forked"], {("m", number): 1 for number in range(300)})
    text = visitor.get(f"{page}/changes").text
    assert "There may be more" in text
    assert len(re.findall(r'data-label="Key"', text)) == 200
    refused = visitor.get(f"{path_of(repo, 'git-branch/login')}/changes")
    assert (refused.status, "database diff" in refused.text) == (409, True)


def test_an_archived_database_says_how_it_comes_back(world: tuple[Visitor, Path]) -> None:
    visitor, repo = world
    git(repo, "branch", "leaving")
    ok(repo, "reconcile")
    page = path_of(repo, "git-branch/leaving")
    git(repo, "branch", "-D", "leaving")
    ok(repo, "reconcile")
    assert "provisioner database recover" in visitor.get(page).text
    refused = visitor.get(f"{page}/keys")
    assert (refused.status, "provisioner database recover" in refused.text) == (410, True)
    revealed = visitor.post(f"{page}/reveal", {"csrf": visitor.csrf})
    assert (revealed.location, "ptd_" in revealed.text) == (page, False)
    assert "is archived, not connected" in visitor.get(page).text


def test_the_audit_log_is_shown_page_by_page(world: tuple[Visitor, Path], home: Path) -> None:
    visitor, _ = world
    with closing(sqlite3.connect(os.path.join(home, "registry.db"))) as connection:
        (count,) = connection.execute("select count(*) from event").fetchone()
    seen = 0
    path = "/activity"
    while path:
        text = visitor.get(path).text
        seen += len(re.findall(r'<td data-label="When">', text))
        older = re.search(r'href="(\?before=\d+)" rel="next"', text)
        path = f"/activity{older[1]}" if older else ""
    assert seen >= count
    for wrong in ("before=x", "before=-1", "before=99999999999999999999", "over=week"):
        assert visitor.get(f"/activity?{wrong}").status == 200
