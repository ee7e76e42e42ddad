"""Deno KV databases on a PostgreSQL server that was linked: one for each branch, which programs reach through our server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from kv_instance_world import kv_shop, mark, marked, opened, serving
from paths import DOCS
from pg_server import PgServer
from pg_world import environment, left
from support import add_branches, database_of, git, ok, provisioner, repository, rows, run, statuses

from provisioner.engines.catalog import engine_of
from provisioner.registry.store import Registry
from provisioner.system.home import Home

COUNTER = """
const kv = await Deno.openKv();
const requests = ((await kv.get<number>(["requests"])).value ?? 0) + 1;
await kv.atomic().set(["requests"], requests).sum(["sum"], 1n).commit();
console.log(requests);
kv.close();
"""


@pytest.fixture
def repo(tmp_path: Path, pg: PgServer) -> Path:
    return kv_shop(tmp_path / "shop", pg, "login")


@pytest.fixture
def served(repo: Path) -> Iterator[Path]:
    with serving():
        yield repo


def test_real_deno_counts_for_each_branch_alone(repo: Path, pg: PgServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("DENO_NO_UPDATE_CHECK", "1")
    script = repo / "main.ts"
    script.write_text(COUNTER)
    counted = []
    with serving("up"):
        for branch in ("main", "login", "main", "login", "main"):
            git(repo, "switch", "-q", branch)
            counted.append((branch, int(ok(repo, "exec", "--", "deno", "run", "-A", "--unstable-kv", str(script)))))
        given = environment(repo, "login")
    assert counted == [("main", 1), ("login", 1), ("main", 2), ("login", 2), ("main", 3)]
    assert given["PROVISIONER_KV_URL"] == given["DENO_KV_DEFAULT_PATH"] == given["KEYS_KV_URL"]
    assert given["DENO_KV_DEFAULT_PATH"].startswith("http://")
    assert not any(name.startswith("PG") or "DATABASE_URL" in name for name in given)
    assert pg.password not in json.dumps(given)


def test_what_the_document_says_to_type_works(tmp_path: Path, pg: PgServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = (DOCS / "kv-postgres.md").read_text()
    (block,) = re.findall(r"## A database for each branch\n\n```sh\n(.*?)```", text, re.DOTALL)
    add, assign, up, execute = (line.partition("    #")[0] for line in block.splitlines())
    repo = repository(tmp_path / "shop")
    (repo / "main.ts").write_text(COUNTER)
    ok(repo, "app", "add", "--name", "shop")
    assert add.split(" ")[-1].startswith("postgresql://")
    run(repo, *add.split(" ")[:-1], pg.url(), check=True)
    run(repo, *assign.split(" "), check=True)
    assert up == "provisioner up"
    with serving("up"):
        assert run(repo, *execute.split(" "), check=True).stdout == "1\n"


def test_without_a_server_of_ours_nothing_runs(repo: Path) -> None:
    trace = repo / "the-command-ran"
    for words in (("exec", "--", "touch", str(trace)), ("env",), ("kv", "list")):
        done = provisioner(repo, *words)
        assert (done.returncode, done.stdout) == (3, "")
        assert "provisioner up" in done.stderr
    assert not trace.exists()
    done = provisioner(repo, "assign", "--connect", "file", "keys")
    assert "apps reach it through the provisioner server" in done.stderr
    assert done.returncode == 2


def test_a_branch_that_comes_later_goes_and_comes_back(served: Path, pg: PgServer) -> None:
    before = left(pg)
    add_branches(served, "later")
    ok(served, "reconcile")
    assert statuses(served)["git-branch/later"] == "connected"
    mark(served, "later", "here")
    assert marked(served, "login") is None
    given = environment(served, "later")
    git(served, "branch", "-qD", "later")
    ok(served, "reconcile")
    name = next(row["name"] for row in rows(served) if row["timeline"] == "git-branch/later")
    assert statuses(served)["git-branch/later"] == "archived"
    done = provisioner(served, "kv", "get", "--timeline", "git-branch/later", '["mark"]')
    assert done.returncode == 3
    assert given["DENO_KV_ACCESS_TOKEN"] not in done.stderr
    add_branches(served, "later")
    ok(served, "reconcile")
    assert marked(served, "later") == "here"
    git(served, "branch", "-qD", "later")
    ok(served, "reconcile")
    ok(served, "database", "purge", name, "--yes")
    assert left(pg) == before


@pytest.mark.parametrize("busy", [False, True])
def test_a_fork_has_the_entries_and_its_own_future(served: Path, busy: bool) -> None:
    mark(served, "main", "main")
    mark(served, "login", "login")
    with opened(served, "main") as kv:
        kv.enqueue("a message", delay=3_600_000)
        if busy:
            with kv.watch([("mark",)]) as watch:
                next(watch)
                told = ok(served, "database", "fork", "production", "login", "--yes")
                kv.set(("mark",), "changed")
                assert next(watch)[0].value == "changed"
            assert "from a dump" in told
            kv.set(("mark",), "main")
        else:
            ok(served, "database", "fork", "production", "login", "--yes")
    assert marked(served, "login") == "main"
    mark(served, "login", "other")
    assert marked(served, "main") == "main"
    assert database_of(served, "git-branch/login")["forked_from"] == database_of(served, "production")["name"]


def test_spares_have_the_tables_and_only_what_nobody_wrote_to_is_swept(repo: Path, pg: PgServer, home: Path) -> None:
    with Registry.open(Home(str(home))) as registry:
        (instance,) = registry.instances()
        engine = engine_of(instance)
        while engine.stock(instance, 3):
            pass
        spares = [name for (name,) in pg.ask(_DATABASES, f"pvx_{instance.id[:8]}_")]
        assert len(spares) == 3
        unknown = []
        for spare in spares[:2]:
            unknown.append("pv" + spare.removeprefix("pvx"))
            pg.ask(
                f'alter database "{spare}" rename to "{unknown[-1]}"; alter role "{spare}" rename to "{unknown[-1]}"'
            )
        pg.ask("insert into deno_kv.kv values ('k', 'v', 1, 1, -1)", database=unknown[1])
        told = engine.sweep(instance, lambda: registry.database_ids(instance.id))
    assert told == [f"{unknown[1]} on postgresql://127.0.0.1:{pg.port}"]
    assert unknown[0] not in left(pg)
    add_branches(repo, "later")
    ok(repo, "reconcile")
    assert spares[2] not in left(pg)
    with serving():
        mark(repo, "later", "here")
        assert marked(repo, "later") == "here"
    pg.ask(f'drop database "{unknown[1]}"')
    pg.ask(f'drop role "{unknown[1]}"')


_DATABASES = "select datname from pg_database where starts_with(datname, %s)"


def test_a_role_gets_at_its_own_database_alone(served: Path, pg: PgServer) -> None:
    mark(served, "main", "main")
    mark(served, "login", "login")
    (instance,) = json.loads(ok(served, "instance", "list", "--json"))
    mine = f"pv_{instance['id'][:8]}_"
    users = pg.ask("select usename, datname from pg_stat_activity where starts_with(datname, %s)", mine)
    names = sorted({name for _, name in users})
    assert len(names) == 2
    assert all(user == name for user, name in users)
    for one, other in (names, names[::-1]):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(pg.url(other, one, "guessed"))
        assert pg.ask("select has_database_privilege(%s, %s, 'CONNECT')", one, other) == [(False,)]
