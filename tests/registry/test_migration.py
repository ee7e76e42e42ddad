"""A registry of an older version is brought up to date with all its rows, whenever that is cut off."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from old_home import back_to_version_2, back_to_version_22, home_files
from support import Done, add_branches, got, killed, marked_shop, ok, provisioner, rows, run

from provisioner.registry.schema.migrations import MIGRATIONS
from provisioner.registry.schema_version import VERSION
from provisioner.system.home_guard import SINCE_VERSION

pytestmark = pytest.mark.slow

NEWER = """
import sys
from provisioner.registry import schema_version
from provisioner.registry.schema import migrations

migrations.MIGRATIONS += (
    ("9001_notes", "alter table app add column note text not null default ''; update app set note = 'of ' || slug"),
    ("9002_index", "create index timeline_revision on timeline (revision)"),
)
schema_version.VERSION += 2
sys.argv[0] = "provisioner"
from provisioner.__main__ import main
main()
"""


def newer(cwd: Path, *args: str, fault: str = "") -> Done:
    """The command of a later version, whose registry has two migrations more."""
    return run(cwd, sys.executable, "-c", NEWER, *args, add={"PROVISIONER_FAULT": fault} if fault else None)


def dump(registry: Path, *tables: str) -> list[list[tuple[object, ...]]]:
    with closing(sqlite3.connect(registry)) as connection:
        return [connection.execute(f"select * from {table} order by 1").fetchall() for table in tables]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return marked_shop(tmp_path / "shop", "login", "cart")


TABLES = ("organization", "instance", "assignment", "timeline", "database", "event")


@pytest.mark.parametrize(
    "fault", ["", "migrate.begun", "migrate.applied", "migrate.applied:2", "migrate.recorded"], ids=lambda fault: fault
)
def test_an_older_registry_is_brought_up_to_date_with_its_rows(repo: Path, home: Path, fault: str) -> None:
    registry = home / "registry.db"
    before = dump(registry, *TABLES, "app")
    killed = newer(repo, "env", "--format", "json", fault=fault)
    assert killed.returncode == (-signal.SIGKILL if fault else 0), killed.stderr
    done = newer(repo, "env", "--format", "json")
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(registry)) as connection:
        assert connection.execute("pragma user_version").fetchone() == (VERSION + 2,)
        assert connection.execute("select slug, note from app").fetchall() == [("shop", "of shop")]
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    assert dump(registry, *TABLES) == before[:-1]
    assert dump(home / f"registry.db.before-{VERSION + 2}", *TABLES, "app") == before

    add_branches(repo, "late")
    assert newer(repo, "reconcile").returncode == 0
    shown = newer(repo, "exec", "--branch", "late", "--", "printenv", "DENO_TIMELINE")
    assert (shown.returncode, shown.stdout) == (0, "git-branch/late\n")
    found = newer(repo, "database", "list", "--json")
    assert found.returncode == 0
    files = sorted(home.glob("instances/*/live/*/kv.sqlite3"))
    assert {got(file) for file in files} == {"", "production", "git-branch/login", "git-branch/cart"}


@pytest.mark.parametrize(
    "command", ["exec -- printenv DENO_KV_DEFAULT_PATH", "env --format json", "reconcile", "database fix --all"]
)
def test_a_registry_of_two_versions_ago_is_brought_up_to_date(repo: Path, home: Path, command: str) -> None:
    registry = home / "registry.db"
    back_to_version_2(registry)
    before = dump(registry, *TABLES, "app")
    done = provisioner(repo, *command.split(" "))
    assert done.returncode == 0, done.stderr
    for rows_before, rows_now in zip(before, dump(registry, *TABLES), strict=False):
        assert [now[: len(row)] for row, now in zip(rows_before, rows_now, strict=True)] == rows_before
    assert dump(home / f"registry.db.before-{VERSION}", *TABLES, "app") == before
    assert ok(repo, "assign", "default", "--connect", "file").endswith(", file\n")


@pytest.mark.parametrize("then", [("--yes",), ("--back", "--yes")], ids=["on", "back"])
def test_a_move_that_an_older_version_began_is_finished(
    repo: Path, home: Path, tmp_path: Path, then: tuple[str, ...]
) -> None:
    before = {row["timeline"]: row["path"] for row in rows(repo)}
    place = tmp_path / "elsewhere"
    killed(repo, "move.flipped", "instance", "move", "default", "--directory", str(place), "--yes")
    back_to_version_22(home / "registry.db")
    there = [row["path"].startswith(str(place)) for row in rows(repo)]
    assert there.count(True) == 1
    for timeline in before:
        shown = run(repo, "provisioner", "exec", "--timeline", timeline, "--", "printenv", "DENO_TIMELINE")
        assert (shown.returncode, shown.stdout.strip()) == (0, timeline), shown.stderr
    ok(repo, "instance", "move", "default", *then)
    after = {row["timeline"]: row["path"] for row in rows(repo)}
    assert {got(Path(path)) for path in after.values()} == {"production", "git-branch/login", "git-branch/cart"}
    assert {path.startswith(str(place)) for path in after.values()} == {"--back" not in then}
    with closing(sqlite3.connect(home / "registry.db")) as connection:
        assert connection.execute("select count(*) from instance_move").fetchone() == (0,)
        assert connection.execute("select count(*) from instance_left").fetchone() == (1,)


def test_a_registry_that_cannot_be_brought_up_to_date_starts_nothing(repo: Path, home: Path) -> None:
    back_to_version_2(home / "registry.db")
    with closing(sqlite3.connect(home / "registry.db")) as connection:
        connection.execute("create table token (something text)")
    for command in ("exec -- echo ran", "env"):
        refused = provisioner(repo, *command.split(" "))
        assert (refused.returncode, refused.stdout) == (3, ""), refused


def test_many_processes_bring_one_registry_up_to_date(repo: Path, home: Path) -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", NEWER, "reconcile"], cwd=repo, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in running:
        told = process.communicate(timeout=60)[1]
        assert process.returncode == 0, told
    with closing(sqlite3.connect(home / "registry.db")) as connection:
        assert connection.execute("select note from app").fetchall() == [("of shop",)]


def test_a_newer_registry_is_refused_and_left_as_it_is(repo: Path, home: Path) -> None:
    assert newer(repo, "env").returncode == 0
    before = dump(home / "registry.db", *TABLES, "app")
    for command, code in (("reconcile", 1), ("status", 1), ("exec -- echo ran", 3), ("env", 3)):
        refused = provisioner(repo, *command.split(" "))
        assert refused.returncode == code
        assert refused.stdout == ""
        assert "newer provisioner" in refused.stderr
        assert "pip install --upgrade" in refused.stderr
    assert dump(home / "registry.db", *TABLES, "app") == before


def test_the_version_counts_the_migrations() -> None:
    assert len(MIGRATIONS) == VERSION


def test_homes_have_an_identity_since_the_migration_that_makes_locations_relative() -> None:
    assert [name for name, _ in MIGRATIONS].index("0014_relative_locations") + 1 == SINCE_VERSION


@pytest.mark.parametrize("old", [False, True], ids=["of this version", "of an older version"])
def test_doctor_changes_nothing_in_the_home(repo: Path, home: Path, old: bool) -> None:
    ok(repo, "status")
    (home / "reserve").unlink()
    if old:
        back_to_version_2(home / "registry.db")
        (home / "identity").unlink()
    before = home_files(home)
    done = provisioner(repo, "doctor")
    assert "corrupt" not in done.stdout + done.stderr
    assert "app shop: " in done.stdout
    assert home_files(home) == before
