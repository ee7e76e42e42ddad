"""`provisioner database dump` and `load`: nothing is lost or changed on the way, and what stops it is said."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kv_files import opened, put, rows
from kv_server import Served
from support import database_of, events, git, ok, provisioner, shop
from test_kv_deno import deno
from test_kv_values import values

from provisioner.kv import UNDEFINED, BigInt, KvU64, open_kv
from provisioner.kv.codec import key
from provisioner.kv.codec import value as encoded
from provisioner.kv.dump import json_lines
from provisioner.kv.dump.json_lines import Dump
from provisioner.kv.errors import DumpInvalid
from provisioner.kv.model import StoredRow

# Some 30 seconds for the million of the acceptance; a twentieth of it shows as well whether memory grows.
ENTRIES = 1_000_000 if "KV_NIGHTLY" in os.environ else 50_000
WRITE = """
const K = [[new Uint8Array([0, 255])], ["a\\0b", "漢"], [1], [-0.5], [-0], [NaN], [Infinity], [2**60], [5n], [-(2n**80n)],
  [true, false], [""], [{}.x ?? "x", 1n, 1, new Uint8Array()]];
for (const i in V) await kv.set(["v", +i], V[i], +i % 3 ? {} : {expireIn: 86400000 + +i});
for (const k of K) await kv.set(k, k);
const same = {}; await kv.set(["twice"], [same, same]); await kv.set(["$"], [{$bytes: "AA"}, {$what: 1}, {$object: {}}]);
"""
READ = """
import { deepStrictEqual } from "node:assert";
let count = 0;
for await (const entry of kv.list({prefix: []})) {
  const before = await other.get(entry.key);
  deepStrictEqual(entry, before);
  count++;
}
console.log(count);
"""


def read_back(data: bytes) -> list[StoredRow]:
    return [row for _, row in Dump(io.BytesIO(data)).rows()]


stored = (
    st.tuples(values.map(encoded.encode), st.sampled_from([15, 16])).map(
        lambda pair: (pair[0][0][:1] + bytes((pair[1],)) + pair[0][0][2:], 1) if pair[0][1] == 1 else pair[0]
    )
    | st.tuples(st.binary(max_size=20), st.sampled_from([1, 2, 3, 0, 7]))
    | st.tuples(st.binary(max_size=20).map(lambda data: b"\xff\x0f" + data), st.just(1))
)


@given(
    st.binary(min_size=1, max_size=20) | st.lists(st.text(max_size=4) | st.floats()).map(key.encode),
    stored,
    st.integers(0, 2**63 - 1) | st.none(),
    st.sampled_from([-1, 0, -5, 2**62]),
)
@example(b"\x02a\0", encoded.encode([{"$v8": "AA=="}]), 5, -1)
@example(b"\x02a\0", encoded.encode({"$stored": [7, "AA=="]}), 5, -1)
@example(b"\x02a\0", encoded.encode("\ud800"), 5, -1)
@example(b"\x21" + b"\xff" * 8, encoded.encode([float("nan"), -0.0, 2.0**53, 1e308]), 5, -1)
@example(b"\x02a\0", (b"\xff\x0f\x42\x01\x01\x56\x42\x00\x01\x00", 1), 5, -1)
@example(b"\x02a\0", (encoded.to_v8([shared := [1], shared]), 1), 5, -1)
def test_any_row_comes_back_bit_by_bit(k: bytes, value: tuple[bytes, int], version: int | None, expire_at: int) -> None:
    row = (k or b"\0", *value, version, expire_at)
    line = json_lines.entry_line(row)
    assert line.count(b"\n") == 1
    assert read_back(line) == [row]


@pytest.fixture(params=["file", "server"])
def way(request: pytest.FixtureRequest, server: Served, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty database: the path of its file, and the name that commands reach it by."""

    def make(path: Path) -> tuple[Path, str]:
        if request.param == "file":
            return path, str(path)
        made = server.database()
        monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", made.token)
        return Path(made.path), made.url

    return make


def test_what_deno_wrote_is_loaded_as_it_was_and_deno_reads_it(tmp_path: Path, way: Any) -> None:
    source = tmp_path / "deno.sqlite3"
    deno(f"const kv = await Deno.openKv({str(source)!r}); {WRITE}; kv.close()")
    path, name = way(tmp_path / "loaded.sqlite3")
    remote = "://" in name
    ok(tmp_path, "database", "dump", source, "-o", "one.jsonl")
    loading = ok(tmp_path, "database", "load", name, "one.jsonl", *(() if remote else ("--keep-versionstamps",)))
    assert loading.startswith(f"Loaded {len(rows(source))} entries into")
    left_out = {"seq", "version"} if remote else {"seq"}
    kept = [[{k: v for k, v in row.items() if k not in left_out} for row in rows(each)] for each in (source, path)]
    assert kept[0] == kept[1]
    assert ok(tmp_path, "database", "diff", source, name, "--stat") == "no difference\n"
    opened = f"const other = await Deno.openKv({str(source)!r}); const kv = await Deno.openKv({str(path)!r});"
    if not remote:
        count = deno(READ.replace("let count", f"{opened} let count", 1) + "kv.close(); other.close()")
        assert int(count) == len(rows(source))
    # What is dumped from there is the same again, but for what a server gives or does not say.
    ok(tmp_path, "database", "dump", name, "-o", "two.jsonl")
    assert ok(tmp_path, "database", "diff", "./one.jsonl", "./two.jsonl", "--stat") == "no difference\n"
    if not remote:
        assert (
            Path(tmp_path / "one.jsonl").read_text().splitlines()[1:]
            == (Path(tmp_path / "two.jsonl").read_text().splitlines()[1:])
        )


def test_a_dump_is_one_moment_while_others_write(tmp_path: Path) -> None:
    from provisioner.kv.dump.full_scan import of_store
    from provisioner.kv.stores.sqlite.store import SqliteStore

    path = tmp_path / "kv.sqlite3"
    with open_kv(path) as kv, closing(SqliteStore(path)) as store:
        for number in range(100):
            kv.set(("account", number), 10)
        with of_store(store) as snapshot:
            seen = []
            for number, row in enumerate(snapshot.rows()):
                seen.append(encoded.decode(row[1], row[2]))
                kv.atomic().set(("account", number), 5).set(("account", 99 - number), 15).set(("z", number), 1).commit()
        assert seen == [10] * 100


def test_a_part_of_a_database_is_read_without_the_rest(tmp_path: Path) -> None:
    from provisioner.kv.dump.full_scan import Batches
    from provisioner.kv.stores.sqlite.store import SqliteStore

    path = tmp_path / "kv.sqlite3"
    ids = [key.encode(("id", number)) for number in range(3000)]
    with open_kv(path), opened(path) as connection, connection:
        statement = "insert into kv (k, v, v_encoding, version) values (?, x'00', 3, 1)"
        connection.executemany(statement, ((each,) for each in ids))
    with closing(SqliteStore(path)) as store, store.moment() as snapshot:
        steps: list[None] = []
        snapshot.connection.set_progress_handler(lambda: bool(steps.append(None)), 10)  # type: ignore[func-returns-value]
        assert [row[0] for row in snapshot.rows(ids[2990], ids[2993])] == ids[2990:2993]
        assert len(steps) < 30  # a step or more of SQLite's machine for each key that it passes
        for each in (snapshot, Batches(store)):
            assert [row[0] for row in each.rows(ids[2990])] == ids[2990:]
            assert [row[0] for row in each.rows(end=ids[3])] == ids[:3]
            assert len(list(each.rows())) == 3000


def test_memory_stays_flat(tmp_path: Path) -> None:
    """What a thousand entries take, many take too."""
    program = (
        "import resource, sys; from provisioner.cli.main import cli\n"
        "cli(sys.argv[1:], standalone_mode=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )

    def peak(*words: object) -> int:
        done = subprocess.run(
            [sys.executable, "-c", program, "database", *map(str, words)], capture_output=True, text=True, check=True
        )
        return int(done.stderr.splitlines()[-1]) // 1024

    def written(count: int) -> Path:
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for number in range(count):
                file.write(json.dumps({"key": ["users", number], "value": {"name": "x" * 60, "n": number}}) + "\n")
        return path

    peaks = []
    for count in (1000, ENTRIES):
        dump = written(count)
        one, other = (tmp_path / f"{count}-{name}.sqlite3" for name in ("one", "other"))
        again = tmp_path / f"{count}-again.jsonl"
        peaks.append(
            [
                peak("load", one, dump),
                peak("dump", one, "-o", again),
                peak("load", other, again, "--keep-versionstamps"),
                peak("diff", one, other),
                peak("diff", one, again),
            ]
        )
        assert ok(tmp_path, "database", "diff", one, other, "--stat") == "no difference\n"
        assert ok(tmp_path, "database", "diff", one, again, "--stat") == "no difference\n"
    growth = [large - small for small, large in zip(*peaks, strict=True)]
    assert max(growth) < 24, peaks


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = shop(tmp_path / "shop", "login")
    ok(repo, "kv", "set", '["a"]', "1")
    ok(repo, "kv", "set", '["b"]', '{"$bigint": "5"}')
    return repo


def listed(repo: Path, branch: str) -> list[str]:
    return ok(repo, "kv", "list", "--branch", branch).splitlines()


@pytest.mark.parametrize("name", ["main", "production", "database", "id", "path"])
def test_a_database_has_many_names(repo: Path, name: str) -> None:
    row = database_of(repo, "production")
    name = {"database": row["name"], "id": row["id"], "path": row["path"]}.get(name, name)
    text = ok(repo, "database", "dump", name)
    assert [json.loads(line).get("key") for line in text.splitlines()] == [None, ["a"], ["b"], None]
    subprocess.run(["provisioner", "database", "load", "login"], cwd=repo, input=text, text=True, check=True)
    assert listed(repo, "login") == listed(repo, "main")


def test_what_is_there_is_kept_unless_it_is_said(repo: Path, home: Path) -> None:
    ok(repo, "database", "dump", "main", "-o", "main.jsonl")
    ok(repo, "kv", "set", "--branch", "login", '["a"]', "2")
    ok(repo, "kv", "set", "--branch", "login", '["c"]', "3")
    refused = provisioner(repo, "database", "load", "login", "main.jsonl")
    assert (refused.returncode, "is not empty" in refused.stderr) == (1, True)
    unasked = provisioner(repo, "database", "load", "login", "main.jsonl", "--merge")
    assert (unasked.returncode, "--yes" in unasked.stderr) == (1, True)
    assert listed(repo, "login") == ['["a"]\t2', '["c"]\t3']
    assert json.loads(ok(repo, "database", "load", "login", "main.jsonl", "--merge", "--yes", "--json")) == {
        "database": database_of(repo, "git-branch/login")["name"],
        "entries": 2,
        "deleted": 0,
    }
    assert listed(repo, "login") == ['["a"]\t1', '["b"]\t{"$bigint": "5"}', '["c"]\t3']
    ok(repo, "database", "load", "login", "main.jsonl", "--replace", "--yes")
    causes = [row["cause"] for row in json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))]
    assert causes == ["load", "load"], "what was there before each can be gone back to"
    assert listed(repo, "login") == listed(repo, "main")
    assert len(events(home, "database.load")) == 2


def test_a_dump_appears_when_it_is_complete_and_replaces_nothing_unasked(repo: Path) -> None:
    said = json.loads(ok(repo, "database", "dump", "main", "-o", "d.jsonl", "--json", "--no-versionstamps"))
    file = repo / "d.jsonl"
    assert (said["entries"], said["size"], said["snapshot"]) == (2, file.stat().st_size, True)
    assert "versionstamp" not in file.read_text().splitlines()[1]
    assert file.stat().st_mode & 0o777 == 0o600
    assert provisioner(repo, "database", "dump", "main", "-o", "d.jsonl").returncode == 1
    ok(repo, "database", "dump", "main", "-o", "d.jsonl", "--yes")
    assert provisioner(repo, "database", "dump", "main", "-o", "no/where.jsonl").returncode == 1
    assert provisioner(repo, "database", "dump", "main", "--json").returncode == 2
    assert [path.name for path in repo.glob("*dump*")] == []


def test_another_sqlite_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("create table mine (x)")
    before = path.read_bytes()
    (tmp_path / "one.jsonl").write_text('{"key": ["a"], "value": 1}\n')
    for words in (("dump", path), ("load", path, "./one.jsonl"), ("diff", path, path)):
        done = provisioner(tmp_path, "database", *words)
        assert (done.returncode, "not a Deno KV database" in done.stderr) == (1, True), done.stderr
    assert path.read_bytes() == before
    assert provisioner(tmp_path, "database", "dump", "./absent").returncode == 3


def dumped(tmp_path: Path, count: int) -> list[str]:
    """The lines of a dump of so many entries."""
    with open_kv(tmp_path / "source.sqlite3") as kv:
        for number in range(count):
            kv.set(("n", number), number)
    return ok(tmp_path, "database", "dump", "./source.sqlite3").splitlines(keepends=True)


BROKEN: dict[str, tuple[Callable[[list[str]], list[str]], int, int]] = {
    "not JSON": (lambda lines: [*lines[:5], "{\n", *lines[6:]], 6, 4),
    "not JSON.*cut off": (lambda lines: [*lines[:5], lines[5][:20]], 6, 4),
    "an entry has key, value": (lambda lines: [*lines[:5], '{"key": ["a"], "vaule": 1}\n', *lines[6:]], 6, 4),
    "is not a notation": (lambda lines: [*lines[:5], '{"key": ["a"], "value": {"$what": 1}}\n', *lines[6:]], 6, 4),
    "at least one part": (lambda lines: [*lines[:5], '{"key": [], "value": 1}\n', *lines[6:]], 6, 4),
    "not after the one before": (lambda lines: [*lines[:5], lines[3], *lines[6:]], 6, 4),
    "without its last line": (lambda lines: lines[:8], 9, 7),
    "there are 9": (lambda lines: [*lines[:5], *lines[6:]], 11, 9),
    "more after the end": (lambda lines: [*lines, lines[2]], 13, 10),
    "can be read": (lambda lines: ['{"format": "provisioner-kv", "version": 9}\n', *lines[1:]], 1, 0),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_with_a_dump_is_said_with_its_line(tmp_path: Path, what: str) -> None:
    breaking, line, stored_before = BROKEN[what]
    (tmp_path / "broken.jsonl").write_text("".join(breaking(dumped(tmp_path, 10))))
    done = provisioner(tmp_path, "database", "load", "./into.sqlite3", "broken.jsonl", "--replace", "--yes")
    assert done.returncode == 1
    assert f"line {line}: " in done.stderr, done.stderr
    assert len(rows(tmp_path / "into.sqlite3")) == stored_before
    assert len(done.stderr.splitlines()) == 1


def test_a_load_goes_on_where_it_stopped(tmp_path: Path) -> None:
    lines = dumped(tmp_path, 20)
    with open_kv(tmp_path / "into.sqlite3") as kv:
        for number in (5.5, 15.5, 99):
            kv.set(("n", number), "old")
    broken = tmp_path / "d.jsonl"
    broken.write_text("".join([*lines[:10], "oops\n", *lines[11:]]))
    load = ("database", "load", "./into.sqlite3", "d.jsonl", "--replace", "--yes")
    done = provisioner(tmp_path, *load)
    assert "9 entries, up to line 10, are loaded" in done.stderr
    assert "--replace --from-line 11" in done.stderr
    with open_kv(tmp_path / "into.sqlite3") as kv:
        assert [entry.key[1] for entry in kv.list(("n",))] == [*range(9), 15.5, 99]
    broken.write_text("".join(lines))
    assert json.loads(ok(tmp_path, *load, "--from-line", "11", "--json")) == {
        "database": "./into.sqlite3",
        "entries": 11,
        "deleted": 2,
    }
    assert ok(tmp_path, "database", "diff", "./source.sqlite3", "./into.sqlite3", "--stat") == "no difference\n"


@pytest.mark.parametrize(("start", "stored", "deleted"), [(5, 1, 1), (6, 0, 1), (99, 0, 1)])
def test_what_was_loaded_before_the_line_to_go_on_from_stays(
    tmp_path: Path, start: int, stored: int, deleted: int
) -> None:
    """Also where the line before is empty, or the dump is shorter than that."""
    lines = [f'{{"key": ["{name}"], "value": 1}}\n' for name in "abc"]
    (tmp_path / "d.jsonl").write_text("".join([*lines[:2], "\n", "\n", lines[2]]))
    with open_kv(tmp_path / "into.sqlite3") as kv:
        for name in ("a", "b", "c", "z"):
            kv.set((name,), "old")
    load = ("database", "load", "./into.sqlite3", "d.jsonl", "--replace", "--yes", "--json", "--from-line", str(start))
    done = json.loads(ok(tmp_path, *load))
    assert (done["entries"], done["deleted"]) == (stored, deleted)
    with open_kv(tmp_path / "into.sqlite3") as kv:
        assert [entry.key for entry in kv.list(())] == [("a",), ("b",), ("c",)]


def test_nothing_is_no_dump(repo: Path, tmp_path: Path) -> None:
    """`dump … | load … --replace`, where the dump fails before it begins."""
    done = provisioner(repo, "database", "load", "main", "-", "--replace", "--yes")
    assert (done.returncode, "standard input is empty" in done.stderr) == (2, True), done.stderr
    assert len(listed(repo, "main")) == 2
    (tmp_path / "empty.jsonl").touch()
    assert provisioner(repo, "database", "diff", "main", str(tmp_path / "empty.jsonl")).returncode == 1


def test_a_server_that_refuses_an_entry_is_told_by_the_line(tmp_path: Path, server: Served) -> None:
    made = server.database()
    large = {"key": ["b"], "value": "x" * 70_000}
    dump = tmp_path / "d.jsonl"
    dump.write_text("\n".join(json.dumps(each) for each in ({"key": ["a"], "value": 1}, large)))
    done = provisioner(tmp_path, "database", "load", made.url, "d.jsonl", add={"DENO_KV_ACCESS_TOKEN": made.token})
    assert (done.returncode, "line 2: a value has at most" in done.stderr) == (1, True), done.stderr
    assert len(rows(Path(made.path))) == 1
    reading = server.reading(made)
    done = provisioner(
        tmp_path, "database", "load", made.url, "d.jsonl", "--merge", "--yes", add={"DENO_KV_ACCESS_TOKEN": reading}
    )
    assert (done.returncode, "nothing was loaded" in done.stderr) == (1, True), done.stderr


def test_over_a_server_a_load_takes_many_writes_and_replaces(tmp_path: Path, server: Served) -> None:
    made = server.database()
    with open_kv(made.path) as kv, open_kv(tmp_path / "source.sqlite3") as source:
        for number in range(2500):
            source.set(("k" * 100, number), "x" * 500)
        for number in range(0, 5000, 2):
            kv.set(("k" * 100, number + 0.5), "old")
    add = {"DENO_KV_ACCESS_TOKEN": made.token}
    done = provisioner(tmp_path, "database", "dump", "./source.sqlite3", "-o", "d.jsonl")
    done = provisioner(tmp_path, "database", "load", made.url, "d.jsonl", "--replace", "--yes", add=add)
    assert "Loaded 2,500 entries" in done.stdout, done.stderr
    assert "deleted 2,500 others" in done.stdout
    assert ok(tmp_path, "database", "diff", made.url, "./source.sqlite3", "--stat", add=add) == "no difference\n"
    kept = provisioner(tmp_path, "database", "load", made.url, "d.jsonl", "--keep-versionstamps", "--replace", add=add)
    assert kept.returncode == 2


def test_what_nobody_can_read_is_dumped_and_loaded_too(tmp_path: Path) -> None:
    path = tmp_path / "kv.sqlite3"
    open_kv(path).close()
    put(path, b"\x02a\0", b"\xff\x0f\x99")
    put(path, b"\x02b\0", b"short", 2)
    put(path, b"\xff\xff", b"any", 77)
    ok(tmp_path, "database", "dump", path, "-o", "d.jsonl")
    ok(tmp_path, "database", "load", tmp_path / "other.sqlite3", "d.jsonl", "--keep-versionstamps")
    assert rows(tmp_path / "other.sqlite3") == rows(path)


def test_lines_by_hand_need_neither_head_nor_end(tmp_path: Path) -> None:
    seeds = [(["u", 1], UNDEFINED), (["u", 2], KvU64(7)), (["u", 3], BigInt(9))]
    text = '{"key": ["u", 3], "value": {"$bigint": "9"}}\n\n{"key": ["u", 1], "value": {"$undefined": true}}\n'
    (tmp_path / "seeds.jsonl").write_text(text + '{"key": ["u", 2], "value": {"$u64": "7"}}')
    ok(tmp_path, "database", "load", "./kv.sqlite3", "seeds.jsonl")
    with open_kv(tmp_path / "kv.sqlite3") as kv:
        assert [([*entry.key], entry.value) for entry in kv.list(())] == seeds


def test_an_archived_database_is_dumped_and_never_loaded(repo: Path) -> None:
    row = database_of(repo, "git-branch/login")
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    ok(repo, "reconcile")
    assert database_of(repo, "git-branch/login")["status"] == "archived"
    text = ok(repo, "database", "dump", row["id"])
    assert len(text.splitlines()) == 2
    done = provisioner(repo, "database", "load", row["id"], os.devnull)
    assert (done.returncode, "archived" in done.stderr) == (3, True)


def test_a_line_knows_its_number(tmp_path: Path) -> None:
    with pytest.raises(DumpInvalid) as caught:
        list(Dump(io.BytesIO(b'{"key": ["a"], "value": 1}\n[]\n')).rows())
    assert caught.value.line == 2


def entries_of(dump: str) -> list[str]:
    """All but the first line, which says when it was taken."""
    return dump.splitlines()[1:]


def test_a_dump_goes_through_links_and_into_pipes_and_replaces_none(repo: Path) -> None:
    dumped = entries_of(ok(repo, "database", "dump", "main"))
    (repo / "link").symlink_to("dumps.jsonl")
    ok(repo, "database", "dump", "main", "--output", "link", "--yes")
    assert (repo / "link").is_symlink()
    assert entries_of((repo / "dumps.jsonl").read_text()) == dumped
    os.mkfifo(repo / "pipe")
    with subprocess.Popen(["timeout", "60", "cat", repo / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        ok(repo, "database", "dump", "main", "--output", "pipe")
        assert (repo / "pipe").is_fifo()
        assert entries_of(reader.communicate()[0]) == dumped
    refused = provisioner(repo, "database", "dump", "main", "--output", ".", "--yes")
    assert refused.returncode == 1
    assert ". cannot be written: Is a directory" in refused.stderr
