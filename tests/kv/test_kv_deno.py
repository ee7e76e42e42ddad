"""One file, real Deno and ours: each reads what the other wrote, also at the same time."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from support import DENO

from provisioner.kv import UNDEFINED, BigInt, KvU64, open_kv
from provisioner.kv.codec import value

PREPARE = """
const V = [1, -1, 2**31, 1.5, -0, NaN, Infinity, "", "é", "漢字", "\\ud800", true, false, null, undefined, 0n, -(2n**70n),
  [], [1, 2], [1, 1.5], [1, "a", null], [[1], {a: []}], {}, {b: 1, 1: 2, "é": 3, "漢": 4}, new Date(1700000000123),
  new Date(NaN), /a+/i, new Map([[1, {x: 1}]]), new Set(["only"]), {u: new Uint8Array([1, 2])}, new Uint8Array([0, 255]),
  new Deno.KvU64(7n), new Error("boom"), new Int16Array([1, 2]), Object(5n), [1, , 3]];
V.push((() => { const c = {n: 1}; c.self = c; c.list = [c]; return c })());
"""


def deno(program: str, *arguments: str) -> str:
    command = [DENO, "eval", "--unstable-kv", PREPARE + program, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "kv.sqlite3")


def test_what_deno_stores_comes_through_ours_unchanged(path: str) -> None:
    """Each value is read by ours, written by ours under another key, and compared by Deno itself."""
    deno(f"const kv = await Deno.openKv({path!r}); for (const i in V) await kv.set(['v', +i], V[i]); kv.close()")
    with open_kv(path) as kv:
        for entry in list(kv.list(("v",))):
            kv.set(("w", entry.key[1]), entry.value)
    check = f"""
    import {{ deepStrictEqual }} from "node:assert";
    const kv = await Deno.openKv({path!r});
    let count = 0;
    for await (const entry of kv.list({{prefix: ["w"]}})) {{
      const before = await kv.get(["v", entry.key[1]]);
      deepStrictEqual(entry.value, before.value);
      if (entry.value instanceof Error && entry.value.message !== "boom") throw entry.value;
      count++;
    }}
    console.log(count, V.length);
    kv.close();
    """
    count, of = deno(check).split()
    assert count == of


def test_ours_writes_the_bytes_that_deno_writes(path: str) -> None:
    deno(f"const kv = await Deno.openKv({path!r}); for (const i in V) await kv.set(['v', +i], V[i]); kv.close()")
    with closing(apsw.Connection(path)) as connection:
        rows: list[Any] = connection.execute("select v, v_encoding from kv order by k").fetchall()
    for data, encoding in rows:
        ours, number = value.encode(value.decode(data, encoding))
        assert number == encoding
        assert ours == (b"\xff\x0f" + data[2:] if encoding == 1 else data)


def test_keys_of_ours_are_keys_of_deno(path: str) -> None:
    keys: list[tuple[Any, ...]] = [(b"\0\xff",), ("a\0b", "漢"), (1,), (-0.5,), (2.0**60,), (True, False)]
    with open_kv(path) as kv:
        for number, key in enumerate(keys):
            kv.set(key, number)
        program = f"""
        const kv = await Deno.openKv({path!r});
        for await (const e of kv.list({{prefix: []}})) await kv.set(["copy", ...e.key], e.value);
        for (const k of [[5n], [-(2n ** 80n)], [2n ** 64n], [NaN], [""]]) await kv.set(k, "deno");
        kv.close();
        """
        deno(program)
        originals = [entry.key for entry in kv.list(()) if entry.key in keys]
        assert [entry.key[1:] for entry in kv.list(("copy",))] == originals
        assert len(originals) == len(keys)
        assert [entry.key for entry in kv.list(()) if entry.value == "deno"][1:3] == [(-(2**80),), (5,)]


def test_cursors_and_versionstamps_pass_between_them(path: str) -> None:
    with open_kv(path) as kv:
        for number in range(6):
            kv.set(("p", number), number)
        entries = kv.list(("p",), limit=2)
        stamp = [entry.versionstamp for entry in entries][-1]
        program = f"""
        const kv = await Deno.openKv({path!r});
        const list = kv.list({{prefix: ["p"]}}, {{cursor: {entries.cursor!r}, limit: 2}});
        const values = []; for await (const e of list) values.push(e.value);
        const ok = (await kv.atomic().check({{key: ["p", 1], versionstamp: {stamp!r}}}).sum(["n"], 5n).commit()).ok;
        console.log(JSON.stringify([values, ok, list.cursor]));
        kv.close();
        """
        values, ok, cursor = json.loads(deno(program))
        assert (values, ok) == ([2, 3], True)
        assert [entry.value for entry in kv.list(("p",), cursor=cursor)] == [4, 5]
        assert kv.get(("n",)).value == KvU64(5)


def test_messages_pass_between_them(path: str) -> None:
    with open_kv(path) as kv:
        kv.enqueue({"from": "python"}, keys_if_undelivered=[("dead",)])
        listening = f"""
        const kv = await Deno.openKv({path!r});
        await kv.enqueue({{from: "deno"}}, {{delay: 3600000}});
        kv.listenQueue((m) => {{ console.log(JSON.stringify(m)); kv.close(); }});
        """
        assert json.loads(deno(listening)) == {"from": "python"}
        sending = f'const kv = await Deno.openKv({path!r}); await kv.enqueue({{to: "python"}}); kv.close()'
        deno(sending)
        heard: list[object] = []

        def handler(message: object) -> None:
            heard.append(message)
            kv.close()

        kv.listen_queue(handler)
        assert heard == [{"to": "python"}]


def test_both_processes_see_each_others_writes(path: str) -> None:
    program = f"""
    const kv = await Deno.openKv({path!r});
    for (let turn = 0; turn < 20; turn++) {{
      while ((await kv.get(["python"])).value !== turn) await new Promise((r) => setTimeout(r, 1));
      await kv.set(["deno"], turn);
    }}
    kv.close();
    """
    with open_kv(path) as kv:
        process = subprocess.Popen([DENO, "eval", "--unstable-kv", program])
        try:
            with kv.watch([("deno",)]) as watch:
                for turn in range(20):
                    kv.set(("python",), turn)
                    assert any(entries[0].value == turn for entries in watch)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()


def test_our_new_file_is_what_deno_makes(path: str) -> None:
    theirs = path + "-theirs"
    deno(f"(await Deno.openKv({theirs!r})).close()")
    open_kv(path).close()
    facts = []
    for each in (path, theirs):
        with closing(apsw.Connection(each)) as connection:
            facts.append(
                [
                    sorted(connection.execute("select type, name, tbl_name, sql from sqlite_master").fetchall()),
                    *(
                        connection.execute(f"pragma {name}").fetchall()
                        for name in ("journal_mode", "page_size", "integrity_check")
                    ),
                    connection.execute("select * from migration_state").fetchall(),
                    connection.execute("select * from data_version").fetchall(),
                ]
            )
    assert facts[0] == facts[1]


@pytest.mark.timeout(120)
def test_node_reads_what_ours_stores_and_the_other_way_round(path: str, tmp_path: Path, node_modules: Path) -> None:
    """Its V8 is older than Deno's."""
    (tmp_path / "node_modules").symlink_to(node_modules)
    script = tmp_path / "node.mjs"
    script.write_text(f"""
    import {{ openKv }} from "@deno/kv";
    const kv = await openKv({path!r});
    for await (const e of kv.list({{prefix: ["python"]}})) await kv.set(["node", e.key[1]], e.value);
    kv.close();
    """)
    items = ["x", "漢", 1, 1.5, BigInt(2**70), None, UNDEFINED, True, [1, [2.5]], {"a": {"1": b"x"}}, b"bytes", {1, 2}]
    with open_kv(path) as kv:
        for number, item in enumerate(items):
            kv.set(("python", number), item)
        subprocess.run(["node", str(script)], cwd=tmp_path, check=True)
        for ours, theirs in zip(kv.list(("python",)), kv.list(("node",)), strict=True):
            assert ours.value == theirs.value
            assert type(ours.value) is type(theirs.value)
