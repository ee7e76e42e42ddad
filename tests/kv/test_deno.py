"""Real clients on the files that we make: Deno, Node's @deno/kv, and SQLite."""

from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from support import database_of, git, ok, shop, statuses

COUNTER = """
const kv = await Deno.openKv();
const requests = ((await kv.get<number>(["requests"])).value ?? 0) + 1;
await kv.set(["requests"], requests);
console.log(requests);
kv.close();
"""


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("DENO_NO_UPDATE_CHECK", "1")
    return shop(tmp_path / "shop", "login", "cart")


def _schema(path: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("select type, name, tbl_name, sql from sqlite_master order by rowid").fetchall()


def _facts(path: str) -> dict[str, object]:
    with closing(sqlite3.connect(path)) as connection:
        pragmas = ("journal_mode", "page_size", "user_version", "application_id", "encoding", "auto_vacuum")
        facts = {name: connection.execute(f"pragma {name}").fetchone()[0] for name in pragmas}
        facts["migrations"] = connection.execute("select * from migration_state").fetchall()
        facts["versions"] = connection.execute("select * from data_version").fetchall()
        facts["check"] = connection.execute("pragma integrity_check").fetchone()[0]
    return facts


def test_our_file_is_what_deno_makes(repo: Path, tmp_path: Path) -> None:
    theirs = str(tmp_path / "theirs.sqlite3")
    program = f"(await Deno.openKv({theirs!r})).close()"
    subprocess.run(["deno", "eval", "--unstable-kv", program], check=True)
    ours = database_of(repo, "production")["path"]
    assert _schema(ours) == _schema(theirs)
    assert _facts(ours) == _facts(theirs)


def test_each_branch_counts_for_itself(repo: Path) -> None:
    script = repo / "main.ts"
    script.write_text(COUNTER)
    strays = {"DENO_KV_DB_MODE": "memory", "DENO_KV_PATH_PREFIX": "/nowhere", "DENO_KV_ACCESS_TOKEN": "stray"}
    counted = []
    for branch in ("main", "login", "main", "cart", "login", "main"):
        git(repo, "switch", "-q", branch)
        out = ok(repo, "exec", "--", "deno", "run", "-A", "--unstable-kv", str(script), add=strays)
        counted.append((branch, int(out)))
    assert counted == [("main", 1), ("login", 1), ("main", 2), ("cart", 1), ("login", 2), ("main", 3)]
    assert set(statuses(repo).values()) == {"connected"}
    for timeline, count in (("production", 3), ("git-branch/login", 2), ("git-branch/cart", 1)):
        with closing(sqlite3.connect(database_of(repo, timeline)["path"])) as connection:
            ((key, value),) = connection.execute("select k, v from kv").fetchall()
        assert key == b"\x02requests\x00"
        assert value[2:] == bytes([ord("I"), count * 2])  # V8's own, behind its version: a zigzag integer


def test_a_home_behind_a_link_serves_deno_which_follows_none(
    repo: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(home)
    script = repo / "main.ts"
    script.write_text(COUNTER)
    counting = ("exec", "--", "deno", "run", "-A", "--unstable-kv", str(script))
    monkeypatch.setenv("PROVISIONER_HOME", str(tmp_path / "link"))
    assert ok(repo, *counting) == "1\n"
    home.rename(tmp_path / "moved")  # and a link stays in its place
    home.symlink_to(tmp_path / "moved")
    assert ok(repo, *counting) == "2\n"


def test_queues_work(repo: Path) -> None:
    program = """
    const kv = await Deno.openKv();
    const heard = new Promise((resolve) => kv.listenQueue((message) => resolve(message)));
    await kv.enqueue("hello " + Deno.env.get("DENO_TIMELINE"));
    console.log(await heard);
    kv.close();
    """
    script = repo / "queue.ts"
    script.write_text(program)
    out = ok(repo, "exec", "--branch", "login", "--", "deno", "run", "-A", "--unstable-kv", str(script))
    assert out == "hello git-branch/login\n"


@pytest.mark.timeout(120)
def test_node_counts_in_the_same_database(repo: Path, node_modules: Path) -> None:
    (repo / "node_modules").symlink_to(node_modules)
    script = repo / "count.mjs"
    script.write_text(
        'import { openKv } from "@deno/kv";\n'
        + COUNTER.replace("Deno.openKv()", "openKv(process.env.DENO_KV_DEFAULT_PATH)").replace("<number>", "")
    )
    (repo / "main.ts").write_text(COUNTER)
    # Deno goes on with Node's value, not the other way round: it may write a newer version of V8's format
    for count in ("1\n", "2\n"):
        assert ok(repo, "exec", "--branch", "login", "--", "node", str(script)) == count
    deno = ("deno", "run", "-A", "--unstable-kv", "--no-config", "main.ts")
    assert ok(repo, "exec", "--branch", "login", "--", *deno) == "3\n"
    assert ok(repo, "exec", "--branch", "cart", "--", "node", str(script)) == "1\n"


def test_sqlite_reads_while_the_app_has_it_open(repo: Path) -> None:
    path = database_of(repo, "git-branch/login")["path"]
    program = """
    const kv = await Deno.openKv();
    await kv.set(["a"], 1);
    console.log("written");
    for await (const _ of Deno.stdin.readable) {}
    kv.close();
    """
    script = repo / "hold.ts"
    script.write_text(program)
    command = ["exec", "--branch", "login", "--", "deno", "run", "-A", "--unstable-kv", str(script)]
    app = subprocess.Popen(
        ["provisioner", *command],
        cwd=repo,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert app.stdout is not None
    assert app.stdout.readline() == b"written\n"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        assert connection.execute("select count(*) from kv").fetchone() == (1,)
    ok(repo, "reconcile")
    app.communicate(timeout=60)
    assert app.returncode == 0
