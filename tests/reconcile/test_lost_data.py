"""Databases whose data is gone: what is said of them, and how they are discarded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pg_server import PgServer
from pg_world import left, mark, pg_shop
from support import database_of, git, ok, provisioner, put, repository, rows, statuses


@dataclass(frozen=True, slots=True)
class Shop:
    """An app with the branches `main` and `login`. `lose` removes a database by hand."""

    repo: Path
    lose: Callable[[dict[str, Any]], None]
    mark: Callable[[str], None]
    left: Callable[[str], bool]


def _of_files(tmp_path: Path) -> Shop:
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "init", "--no-hooks", "--grace", "0s")
    store = tmp_path / "home" / "instances" / "default"

    def lose(row: dict[str, Any]) -> None:
        for stage in ("live", "archive"):
            shutil.rmtree(store / stage / row["id"], ignore_errors=True)

    def written(branch: str) -> None:
        put(database_of(repo, f"git-branch/{branch}")["path"], branch)

    def there(database_id: str) -> bool:
        return any(store.glob(f"*/{database_id}*"))

    return Shop(repo, lose, written, there)


def _of_postgres(tmp_path: Path, pg: PgServer) -> Shop:
    repo = pg_shop(tmp_path / "shop", pg, "login")

    def lose(row: dict[str, Any]) -> None:
        data = [name for name in left(pg) if name.startswith(("pv_", "pva_")) and _digits(row["id"]) in name]
        for name in sorted(data, reverse=True):  # the role has the name of the live database
            pg.ask(f'drop database if exists "{name}" with (force)')
            if not pg.ask("select 1 from pg_database where datname like %s", f"%%{_digits(row['id'])}%%"):
                pg.ask(f'drop role if exists "{name}"')

    def there(database_id: str) -> bool:
        return any(_digits(database_id) in name for name in left(pg))

    return Shop(repo, lose, lambda branch: mark(repo, branch, branch), there)


def _digits(database_id: str) -> str:
    return database_id.replace("-", "")


@pytest.fixture(params=["files", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    return _of_files(tmp_path) if request.param == "files" else _of_postgres(tmp_path, request.getfixturevalue("pg"))


def _wrong(repo: Path) -> str:
    rows = json.loads(provisioner(repo, "doctor", "--json").stdout)
    return "\n".join(row["message"] for row in rows if not row["ok"] and "hooks" not in row["check"])


def test_what_is_lost_and_whose_branch_is_gone_is_discarded_by_the_command_that_is_named(shop: Shop) -> None:
    repo, found = shop.repo, database_of(shop.repo, "git-branch/login")
    shop.mark("login")
    kept = ok(repo, "database", "snapshot", "create", "login").split()[2]
    shop.lose(found)
    git(repo, "branch", "-q", "-D", "login")
    git(repo, "branch", "other")
    command = f"provisioner database purge {found['id']}"
    done = provisioner(repo, "reconcile")
    assert done.returncode == 1
    assert command in done.stderr
    assert statuses(repo)["git-branch/other"] == "connected"  # it keeps nothing else waiting
    assert command in _wrong(repo)

    asked = provisioner(repo, "database", "purge", found["id"])
    assert asked.returncode != 0
    assert "--yes" in asked.stderr
    assert database_of(repo, "git-branch/login")["status"] == "error"
    said = ok(repo, *command.split()[1:], "--yes")
    assert said == f"Permanently deleted {found['name']}\n"
    assert "git-branch/login" not in statuses(repo)
    assert not shop.left(found["id"]), kept
    ok(repo, "reconcile")
    assert _wrong(repo) == ""
    assert set(statuses(repo).values()) == {"connected"}


def test_what_is_lost_and_whose_branch_is_there_is_emptied_and_no_snapshot_is_named(shop: Shop) -> None:
    repo, found = shop.repo, database_of(shop.repo, "git-branch/login")
    shop.lose(found)
    command = f"provisioner database reset {found['id']}"
    assert command in _wrong(repo)
    done = provisioner(repo, "reconcile")
    assert done.returncode == 1
    assert command in done.stderr
    assert command in _wrong(repo)
    assert "restore" not in done.stderr  # there is no snapshot of it
    said = ok(repo, *command.split()[1:], "--yes")
    assert "Previous data: none, because it was lost" in said
    assert json.loads(ok(repo, "database", "snapshot", "list", "login", "--json")) == []
    ok(repo, "reconcile")
    assert _wrong(repo) == ""
    shop.mark("login")
    said = ok(repo, "database", "reset", "login", "--yes")
    kept = said.partition("Previous data: snapshot ")[2].partition(".")[0]
    assert kept in ok(repo, "database", "snapshot", "list", "login")


def test_what_is_lost_can_be_restored_from_a_snapshot(shop: Shop) -> None:
    repo, found = shop.repo, database_of(shop.repo, "git-branch/login")
    shop.mark("login")
    kept = ok(repo, "database", "snapshot", "create", "login").split()[2]
    shop.lose(found)
    done = provisioner(repo, "reconcile")
    assert f"provisioner database snapshot list {found['id']}" in done.stderr
    ok(repo, "database", "restore", "login", kept, "--yes")
    assert _wrong(repo) == ""
    assert set(statuses(repo).values()) == {"connected"}


def test_production_that_is_lost_is_discarded_only_by_its_name_and_begins_empty(shop: Shop) -> None:
    repo, found = shop.repo, database_of(shop.repo, "production")
    shop.lose(found)
    done = provisioner(repo, "reconcile")
    assert f"provisioner database purge {found['id']}" in done.stderr
    ok(repo, "database", "purge", found["id"], "--yes")
    assert database_of(repo, "production")["id"] != found["id"]
    assert set(statuses(repo).values()) == {"connected"}


def test_what_was_lost_in_the_archive_is_discarded_after_it_could_not_be_recovered(shop: Shop) -> None:
    repo, found = shop.repo, database_of(shop.repo, "git-branch/login")
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    shop.lose(found)
    git(repo, "branch", "login")
    done = provisioner(repo, "reconcile")
    assert done.returncode == 1
    assert f"provisioner database purge {found['id']}" in done.stderr
    ok(repo, "database", "purge", found["id"], "--yes")
    ok(repo, "reconcile")
    assert set(statuses(repo).values()) == {"connected"}
    assert _wrong(repo) == ""


def test_what_is_lost_is_not_archived(shop: Shop) -> None:
    repo, found = shop.repo, database_of(shop.repo, "git-branch/login")
    shop.lose(found)
    done = provisioner(repo, "database", "archive", "login", "--yes")
    assert done.returncode == 1
    assert f"provisioner database reset {found['id']}" in done.stderr
    assert [row["status"] for row in rows(repo)] == ["connected", "connected"]  # nothing was asked for


def test_what_is_damaged_is_not_called_lost(tmp_path: Path) -> None:
    repo = _of_files(tmp_path).repo
    found = database_of(repo, "git-branch/login")
    Path(found["path"]).write_bytes(b"x" * 5000)
    done = provisioner(repo, "reconcile")
    assert done.returncode == 1
    assert "purge" not in done.stderr
    assert "reset" not in done.stderr
    assert provisioner(repo, "database", "purge", "login", "--yes").returncode == 1
    assert Path(found["path"]).exists()


def test_what_is_on_a_disk_that_is_away_is_not_called_lost(tmp_path: Path) -> None:
    repo = _of_files(tmp_path).repo
    store = tmp_path / "home" / "instances" / "default"
    store.rename(tmp_path / "aside")
    store.mkdir()
    git(repo, "branch", "-q", "-D", "login")
    done = provisioner(repo, "reconcile")
    assert done.returncode == 1
    assert "purge" not in done.stderr
    assert provisioner(repo, "database", "purge", "login", "--yes").returncode == 1
    shutil.rmtree(store)
    (tmp_path / "aside").rename(store)
    ok(repo, "reconcile")
    assert statuses(repo) == {"production": "connected", "git-branch/login": "archived"}
