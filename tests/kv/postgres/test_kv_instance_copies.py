"""What is copied, replaced and kept of Deno KV databases on a PostgreSQL server, while programs have them open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kv_instance_world import KEY, kv_shop, mark, marked, opened, serving
from pg_server import PgServer
from pg_world import left
from support import add_branches, database_of, git, killed, ok, provisioner, repository, statuses

SECRET = "of the manager"


@pytest.fixture
def repo(tmp_path: Path, pg: PgServer) -> Iterator[Path]:
    repo = kv_shop(tmp_path / "shop", pg, "login")
    with serving():
        for branch in ("main", "login"):
            mark(repo, branch, branch)
        yield repo


def kept(repo: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))
    return found


def test_a_watch_goes_on_through_reset_and_restore_and_versions_grow(repo: Path) -> None:
    versions = []
    with opened(repo, "login") as kv, kv.watch([KEY]) as watch:
        assert next(watch)[0].value == "login"
        versions.append(kv.set(KEY, "again").versionstamp)
        assert next(watch)[0].value == "again"
        ok(repo, "database", "snapshot", "create", "login")
        ok(repo, "database", "reset", "login", "--yes")
        assert next(watch)[0].value is None
        versions.append(kv.set(KEY, "new").versionstamp)
        assert next(watch)[0].value == "new"
        snapshot = next(item for item in kept(repo) if item["cause"] != "reset")
        ok(repo, "database", "restore", "login", snapshot["id"], "--yes")
        assert next(watch)[0].value == "again"
        versions.append(kv.set(("other",), "new").versionstamp)
    assert versions == sorted(set(versions))
    assert {item["cause"] for item in kept(repo)} >= {"reset", "restore"}
    assert marked(repo, "main") == "main"


def test_messages_are_in_a_snapshot_and_in_no_fork(repo: Path, pg: PgServer) -> None:
    with opened(repo, "login") as kv:
        kv.enqueue("later", delay=3_600_000)
    ok(repo, "database", "snapshot", "create", "login")
    add_branches(repo, "copy")
    ok(repo, "reconcile")
    ok(repo, "database", "fork", "login", "copy", "--yes")
    ids = {branch: database_of(repo, timeline)["id"].replace("-", "") for branch, timeline in TIMELINES.items()}
    mine = [
        name for name in left(pg) if name.startswith(("pv_", "pvs_")) and any(each in name for each in ids.values())
    ]
    live = {name: waiting(pg, name) for name in mine}
    assert [live[name] for name in live if name.startswith("pv_") and name.endswith(ids["copy"])] == [0]
    assert [live[name] for name in live if name.startswith("pv_") and name.endswith(ids["login"])] == [1]
    assert [live[name] for name in live if name.startswith("pvs_") and ids["login"] in name] == [1]
    ok(repo, "database", "reset", "login", "--yes")
    (made,) = [item for item in kept(repo) if item["cause"] != "reset"]
    ok(repo, "database", "restore", "login", made["id"], "--with-queue", "--yes")
    name = next(name for name in live if name.startswith("pv_") and name.endswith(ids["login"]))
    assert waiting(pg, name) == 1


TIMELINES = {"copy": "git-branch/copy", "login": "git-branch/login"}


def waiting(pg: PgServer, name: str) -> int:
    ((count,),) = pg.ask("select count(*) from deno_kv.queue", database=name)
    return int(count)


def test_copies_of_production_have_to_pass_a_scrub_of_sql(repo: Path, tmp_path: Path) -> None:
    script = tmp_path / "scrub.sql"
    script.write_text("delete from deno_kv.kv")
    ok(repo, "assign", "keys", "shop", "--scrub", str(script), "--new-branch", "fork:production")
    add_branches(repo, "wish")
    ok(repo, "reconcile")
    assert statuses(repo)["git-branch/wish"] == "connected"
    assert marked(repo, "wish") is None
    mark(repo, "wish", "wish")
    command = 'test "$DENO_KV_DEFAULT_PATH" = "" && psql "$DATABASE_URL" -c "select k from deno_kv.kv"'
    ok(repo, "database", "fork", "production", "login", "--scrub", command, "--yes")
    assert marked(repo, "login") == "main"
    program = tmp_path / "scrub.py"
    program.write_text(SCRUB)
    ok(repo, "database", "fork", "production", "login", "--scrub", str(program), "--yes")
    assert marked(repo, "login") == "nobody"
    done = provisioner(repo, "database", "fork", "production", "login", "--scrub", "psql -c 'select none'", "--yes")
    assert done.returncode == 1
    assert [marked(repo, branch) for branch in ("main", "login", "wish")] == ["main", "nobody", "wish"]


SCRUB = """
import os
from provisioner import open_kv
with open_kv(os.environ["DATABASE_URL"]) as kv:
    kv.set(("mark",), "nobody")
"""


def test_entries_are_dumped_loaded_and_compared(repo: Path, tmp_path: Path) -> None:
    dump = tmp_path / "main.jsonl"
    ok(repo, "database", "dump", "production", "-o", str(dump))
    assert '"main"' in dump.read_text()
    ok(repo, "database", "load", "login", str(dump), "--replace", "--yes")
    assert marked(repo, "login") == "main"
    assert kept(repo)[0]["cause"] == "load"
    ok(repo, "database", "fork", "production", "login", "--yes")
    mark(repo, "login", "changed")
    with opened(repo, "main") as kv:
        kv.set(("added",), 1)
    told = json.loads(ok(repo, "database", "diff", "production", "login", "--json"))
    assert [(change["key"], change["change"], change["by"]) for change in told["changes"]] == [
        (["added"], "removed", "a"),
        (["mark"], "changed", "b"),
    ]
    name = database_of(repo, "git-branch/login")["name"]
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    assert '"changed"' in ok(repo, "database", "dump", name)


def test_sharing_previews_tokens_and_sizes(repo: Path) -> None:
    (document,) = [item for item in json.loads(ok(repo, "status", "--json")) if item["branch"] == "login"]
    (database,) = document["databases"]
    assert database["path"] is None
    assert database["url"].startswith("http://")
    assert database["size"] > 1_000_000
    ok(repo, "database", "share", "production", "login", "--yes")
    assert marked(repo, "login") == "main"
    ok(repo, "database", "unshare", "login")
    assert marked(repo, "login") == "login"
    ok(repo, "preview", "create", "HEAD")
    assert sum(name.startswith("preview/") for name in statuses(repo)) == 1
    assert set(statuses(repo).values()) == {"connected"}
    with opened(repo, "main") as kv:
        ok(repo, "token", "revoke", "--database", database_of(repo, "production")["id"])
        with pytest.raises(Exception, match="token"):
            kv.set(KEY, "with an old token")
    assert marked(repo, "main") == "main"
    ok(repo, "token", "rotate-key", "--yes")
    for branch in ("main", "login"):
        mark(repo, branch, f"{branch} with a new key")
        assert marked(repo, branch) == f"{branch} with a new key"


def test_an_instance_is_tested_renamed_deleted_and_recovered(repo: Path, pg: PgServer) -> None:
    assert "confinement" in ok(repo, "instance", "test", "keys")
    ok(repo, "instance", "edit", "keys", "--name", "baskets")
    ok(repo, "instance", "edit", "baskets", "--url", pg.url())
    done = provisioner(repo, "instance", "edit", "baskets", "--directory", "/nowhere")
    assert done.returncode == 2
    assert marked(repo, "login") == "login"
    shown = ok(repo, "instance", "show", "baskets")
    assert f"postgresql://127.0.0.1:{pg.port}" in shown
    assert pg.password not in shown
    ok(repo, "instance", "delete", "baskets", "--yes")
    assert provisioner(repo, "env").returncode == 3
    ok(repo, "instance", "recover", "baskets")
    assert [marked(repo, branch) for branch in ("main", "login")] == ["main", "login"]


@pytest.mark.parametrize(
    ("point", "action"),
    [
        ("postgres.created", "reset"),
        ("replace.built", "fork"),
        ("replace.kept", "fork"),
        ("replace.moved", "restore"),
    ],
)
def test_kill_9_while_replacing(repo: Path, point: str, action: str) -> None:
    command: tuple[str, ...] = ("fork", "production", "login")
    if action == "reset":
        command = ("reset", "login")
    if action == "restore":
        ok(repo, "database", "snapshot", "create", "login")
        command = ("restore", "login", kept(repo)[0]["id"])
    killed(repo, point, "database", *command, "--yes")
    ok(repo, "reconcile")
    assert set(statuses(repo).values()) == {"connected"}
    held = {"fork": "main", "reset": None, "restore": "login"}[action]
    assert marked(repo, "login") in (held, "login")
    assert marked(repo, "main") == "main"
    if marked(repo, "login") != "login":
        first = next(item for item in kept(repo) if item["cause"] == action)
        ok(repo, "database", "restore", "login", first["id"], "--yes")
        assert marked(repo, "login") == "login"


def test_who_may_create_databases_and_roles_is_enough(tmp_path: Path, pg: PgServer) -> None:
    pg.ask(
        f"create role keeper login createdb createrole password '{SECRET}'; grant connect on database postgres to keeper"
    )
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "instance", "add", "keys", "--url", pg.url(user="keeper", password=SECRET))
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    ok(repo, "assign", "keys", "shop")
    with serving():
        mark(repo, "main", "main")
        with opened(repo, "main") as kv, kv.watch([KEY]) as watch:
            next(watch)
            assert "from a dump" in ok(repo, "database", "fork", "production", "login", "--yes")
        assert marked(repo, "login") == "main"
        ok(repo, "database", "reset", "login", "--yes")
        assert marked(repo, "login") is None
