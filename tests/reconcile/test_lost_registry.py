"""A registry that was lost, or is an older one: no empty database takes the place of one that is stored."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from home_world import photograph
from owner_world import keep_registry, lose_registry, must_be_true, put_registry_back
from pg_server import PgServer
from pg_world import mark, marked, pg_shop
from support import (
    add_branches,
    connected,
    daemon,
    database_of,
    files,
    git,
    got,
    marked_shop,
    ok,
    provisioner,
    put,
    repository,
    rows,
    statuses,
)

from provisioner.kv import open_kv
from provisioner.kv.errors import AccessDenied

STEP = "provisioner database recover"


def _marks(repo: Path) -> dict[str, str]:
    return {branch: got(file) for branch, file in files(repo).items()}


def test_init_makes_no_empty_databases_where_there_are_some(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "login", "cart")
    before = _marks(repo)
    app = json.loads(ok(repo, "app", "show", "--json"))["id"]
    data = {branch: str(file) for branch, file in files(repo).items()}
    lose_registry(home)
    add_branches(repo, "new")
    refused = provisioner(repo, "init", "--no-hooks", "--grace", "0s")
    assert refused.returncode == 1
    assert f"{STEP} --all" in refused.stderr
    assert refused.stdout.count(STEP) == 3
    assert connected(repo) == {"new"}  # which has nothing to do with the others
    again = provisioner(repo, "reconcile")
    assert (again.returncode, STEP in again.stderr) == (1, True)
    for words in (("exec", "--", "true"), ("kv", "get", '["a"]'), ("env",)):
        closed = provisioner(repo, *words)
        assert (closed.returncode, STEP in closed.stderr) == (3, True)
    told = provisioner(repo, "doctor").stdout
    for name in ("production", "git-branch/login", "git-branch/cart"):
        assert f"FAIL app shop {name}: its database" in told
    login = Path(data["login"]).parent.name
    assert ok(repo, "database", "recover", login).endswith(" is connected\n")
    assert got(data["login"]) == "git-branch/login"
    assert connected(repo) == {"new", "login"}
    ok(repo, "database", "recover", "--branch", "cart")
    ok(repo, "database", "recover", "--all")
    assert _marks(repo) == {**before, "new": ""}
    assert {branch: str(file) for branch, file in files(repo).items() if branch != "new"} == data
    assert json.loads(ok(repo, "app", "show", "--json"))["id"] == app
    assert "not in the registry" not in provisioner(repo, "doctor").stdout
    nothing = provisioner(repo, "database", "recover", "--all")
    assert (nothing.returncode, "There is nothing to recover" in nothing.stderr) == (1, True)
    must_be_true(home)


def test_a_daemon_and_a_push_make_none_either(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    ok(repo, "kv", "set", "--branch", "main", '["a"]', "1")
    untouched = ok(repo, "exec", "--branch", "login", "--", "printenv", "DENO_KV_DEFAULT_PATH").strip()
    with closing(sqlite3.connect(untouched)) as connection, connection:
        connection.execute("delete from kv")  # one that is empty may be in use all the same
    lose_registry(home)
    before = set(home.glob("instances/default/live/*"))
    assert provisioner(repo, "init").returncode == 1
    with daemon(home) as running:
        git(repo, "switch", "-qc", "more")
        assert running.stop() == 0
    assert before <= set(home.glob("instances/default/live/*"))
    ok(repo, "database", "recover", "--all")
    assert connected(repo) == {"main", "login", "more"}


@pytest.mark.parametrize("engine", ["files", "postgres"])
def test_an_older_registry_gives_no_branch_anothers_data_and_loses_none(
    tmp_path: Path, home: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    """What was made, renamed, archived and recovered since the backup."""
    names = ("stays", "renamed", "archived", "swapped", "recovered")
    if engine == "files":
        repo = marked_shop(tmp_path / "shop", *names)
    else:
        repo = pg_shop(tmp_path / "shop", request.getfixturevalue("pg"), *names)
        for name in ("main", *names):
            mark(repo, name, f"git-branch/{name}" if name != "main" else "production")

    def marks() -> dict[str, str]:
        return _marks(repo) if engine == "files" else {name: marked(repo, name) for name in connected(repo)}

    def write(branch: str, text: str) -> None:
        if engine == "files":
            put(files(repo)[branch], text)
        else:
            mark(repo, branch, text)

    git(repo, "branch", "-D", "recovered")
    ok(repo, "reconcile")
    kept = keep_registry(home)
    add_branches(repo, "new", "recovered")
    git(repo, "branch", "-m", "renamed", "other")
    git(repo, "branch", "-D", "archived")
    git(repo, "branch", "-m", "swapped", "between")
    git(repo, "branch", "-m", "stays", "swapped")
    git(repo, "branch", "-m", "between", "stays")
    ok(repo, "reconcile")
    write("new", "git-branch/new")
    truth = marks()
    assert truth == {
        "main": "production",
        "new": "git-branch/new",
        "other": "git-branch/renamed",
        "recovered": "git-branch/recovered",
        "stays": "git-branch/swapped",
        "swapped": "git-branch/stays",
    }
    put_registry_back(home, kept)
    with closing(sqlite3.connect(home / "registry.db")) as connection, connection:
        connection.execute("update database set purge_at = 1, waits_from = -1000000000000 where status = 'archived'")
    refused = provisioner(repo, "reconcile")
    assert (refused.returncode, STEP in refused.stderr) == (1, True), refused
    now = marks()
    assert {branch: text for branch, text in now.items() if truth.get(branch) != text} == {}, "crossed, or emptied"
    told = provisioner(repo, "doctor").stdout
    assert "differs from the registry, which may be older than the data" in told
    assert "git-branch/new: its database" in told
    ok(repo, "database", "recover", "--all")
    provisioner(repo, "reconcile")
    assert marks() == truth
    must_be_true(home)


def test_a_program_is_not_given_another_branchs_database_by_an_older_registry(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "first", "plain")
    kept = keep_registry(home)
    git(repo, "branch", "-m", "first", "second")
    add_branches(repo, "first")
    ok(repo, "reconcile")
    truth = _marks(repo)
    put_registry_back(home, kept)
    shutil.rmtree(repo / ".git/logs")  # so that only the refs are left, which are older than that
    for words in (["exec"], ["env"], ["kv", "get"]):
        closed = provisioner(repo, *words, "--branch", "first", *{"exec": ["true"], "kv": ['["a"]']}.get(words[0], []))
        assert (closed.returncode, STEP in closed.stderr) == (3, True), closed
        assert "of git-branch/first is stored on default, but the registry does not have it as live" in closed.stderr
    ok(repo, "exec", "--branch", "plain", "--", "true")
    ok(repo, "database", "recover", "--all")
    assert _marks(repo) == truth


@pytest.mark.parametrize("followed", [True, False])
def test_branches_that_an_older_registry_has_crossed_are_taken_back(tmp_path: Path, home: Path, followed: bool) -> None:
    repo = marked_shop(tmp_path / "shop", "one", "two", "three")
    kept = keep_registry(home)
    for old, new in (("one", "between"), ("two", "one"), ("three", "two"), ("between", "three")):
        git(repo, "branch", "-m", old, new)
        ok(repo, "reconcile")
    truth = _marks(repo)
    assert (truth["one"], truth["three"]) == ("git-branch/two", "git-branch/one")
    put_registry_back(home, kept)
    if not followed:
        shutil.rmtree(repo / ".git/logs")
        ok(repo, "app", "set", "--name", "store")  # which is no reason to write an older word beside the data
        assert STEP not in provisioner(repo, "doctor").stdout
        assert _marks(repo) == truth
    recovered = provisioner(repo, "database", "recover", "--all")
    assert recovered.returncode == (0 if followed else 1), recovered
    assert _marks(repo) == truth
    must_be_true(home)


def test_a_daemon_disconnects_what_an_older_registry_has_for_another_branch(
    tmp_path: Path, home: Path, pg: PgServer
) -> None:
    repo = pg_shop(tmp_path / "shop", pg, "first", "plain")
    mark(repo, "first", "first's")
    kept = keep_registry(home)
    git(repo, "branch", "-m", "first", "second")
    add_branches(repo, "first")
    ok(repo, "reconcile")
    put_registry_back(home, kept)
    shutil.rmtree(repo / ".git/logs")
    with daemon(home) as running:
        assert running.stop() == 0
    assert statuses(repo)["git-branch/first"] == "error"
    closed = provisioner(repo, "exec", "--branch", "first", "--", "true")
    assert (closed.returncode, STEP in closed.stderr) == (3, True), closed
    fixed = provisioner(repo, "database", "fix", "first")
    assert (fixed.returncode, STEP in fixed.stderr) == (1, True), fixed
    ok(repo, "exec", "--branch", "plain", "--", "true")
    ok(repo, "database", "recover", "--all")
    assert (marked(repo, "second"), marked(repo, "first")) == ("first's", "")


def test_a_linked_server_is_known_again_by_its_name(tmp_path: Path, home: Path, pg: PgServer) -> None:
    repo = pg_shop(tmp_path / "shop", pg, "login")
    mark(repo, "login", "here")
    before = {row["id"] for row in rows(repo)}
    lose_registry(home)
    ok(repo, "instance", "add", "main", "--engine", "postgres", "--url", pg.url())
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    refused = provisioner(repo, "assign", "main", "shop")
    assert (refused.returncode, STEP in refused.stderr) == (1, True)
    assert provisioner(repo, "doctor").stdout.count("is not in the registry. Run: provisioner database recover") == 2
    ok(repo, "database", "recover", "--all")
    assert marked(repo, "login") == "here"
    assert {row["id"] for row in rows(repo)} == before
    must_be_true(home)


def test_an_administrator_who_may_make_no_schema_keeps_owners_all_the_same(
    tmp_path: Path, home: Path, pg: PgServer
) -> None:
    pg.ask("create role registrar login createdb createrole password 'secret'")
    pg.ask("grant connect on database postgres to registrar")
    repo = repository(tmp_path / "shop", "login")
    url = f"postgresql://registrar:secret@127.0.0.1:{pg.port}/postgres"
    try:
        ok(repo, "instance", "add", "kept", "--engine", "postgres", "--url", url)
        ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
        ok(repo, "assign", "kept", "shop")
        mark(repo, "login", "here")
        must_be_true(home)
        lose_registry(home)
        ok(repo, "instance", "add", "kept", "--engine", "postgres", "--url", url)
        ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
        assert provisioner(repo, "assign", "kept", "shop").returncode == 1
        ok(repo, "database", "recover", "--all")
        assert marked(repo, "login") == "here"
    finally:
        ok(repo, "instance", "delete", "kept", "--no-backup", "--yes")


def test_an_embedded_server_is_known_again_by_its_directory(tmp_path: Path, home: Path) -> None:
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "instance", "add", "own", "--engine", "postgres")
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    ok(repo, "assign", "own", "shop")
    mark(repo, "login", "here")
    lose_registry(home)
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    told = provisioner(repo, "doctor").stdout
    assert "FAIL instance own: it stores data in" in told
    assert "Run: provisioner instance add own --engine postgres" in told
    ok(repo, "instance", "add", "own", "--engine", "postgres")
    assert provisioner(repo, "assign", "own", "shop").returncode == 1
    ok(repo, "database", "recover", "--all")
    assert marked(repo, "login") == "here"


def test_what_was_handed_out_before_opens_nothing_after(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    with daemon(home, "provisioner", "serve", "--port", "0", announced="server"):
        revoked = json.loads(ok(repo, "env", "--branch", "login", "--format", "json"))
        ok(repo, "token", "revoke", "--database", database_of(repo, "git-branch/login")["id"])
        valid = json.loads(ok(repo, "env", "--branch", "login", "--format", "json"))
    lose_registry(home)
    provisioner(repo, "init", "--no-hooks")
    ok(repo, "database", "recover", "--all")
    with daemon(home, "provisioner", "serve", "--port", "0", announced="server"):
        given = json.loads(ok(repo, "env", "--branch", "login", "--format", "json"))
        for old in (revoked, valid):
            with (
                pytest.raises(AccessDenied),
                open_kv(given["DENO_KV_DEFAULT_PATH"], access_token=old["DENO_KV_ACCESS_TOKEN"]) as kv,
            ):
                kv.get(("a",))


def test_a_database_that_does_not_say_whose_it_is_can_be_given_to_a_timeline(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    path = files(repo)["login"]
    (path.parent / "owner.json").unlink()
    link = next(each for each in home.glob("instances/default/owners/*") if os.readlink(each) == path.parent.name)
    link.unlink()
    git(repo, "branch", "-D", "login")
    lose_registry(home)
    provisioner(repo, "init", "--no-hooks", "--grace", "0s")
    told = provisioner(repo, "doctor").stdout
    assert f"{path.parent} is not in the registry. Run: {STEP} {path.parent.name} --app APP --to TIMELINE" in told
    refused = provisioner(repo, "database", "recover", path.parent.name)
    assert (refused.returncode, "--to" in refused.stderr) == (3, True)
    add_branches(repo, "wanted")
    ok(repo, "database", "recover", path.parent.name, "--to", "wanted")
    assert got(files(repo)["wanted"]) == "git-branch/login"


def test_a_live_database_is_not_replaced_by_one_that_is_taken_back(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    kept = keep_registry(home)
    login = files(repo)["login"].parent
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    ok(repo, "database", "purge", "login", "--yes")
    add_branches(repo, "login")
    ok(repo, "reconcile")
    put(files(repo)["login"], "the second")
    second = files(repo)["login"].parent.name
    put_registry_back(home, kept)
    before = photograph(home / "instances/default/live")
    provisioner(repo, "reconcile")
    told = provisioner(repo, "database", "recover", second)
    assert "has a live database" in told.stderr
    assert f"provisioner database archive {login.name}" in told.stderr
    assert photograph(home / "instances/default/live") == before
    assert statuses(repo)["git-branch/login"] == "error"  # the first one's data is gone
