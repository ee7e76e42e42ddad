"""An instance is deleted with all of its databases, after a backup, and comes back whole until its time is over."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import tarfile
import threading
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from kv_files import integrity
from support import (
    DENO,
    add_branches,
    daemon,
    database_of,
    events,
    git,
    got,
    killed,
    marked_shop,
    ok,
    points,
    provisioner,
    put,
    repository,
    rows,
    run,
    small_disk,
    statuses,
    until,
)

from provisioner.core.errors import ProvisionerError
from provisioner.operations.instance import deletion as instance_deletion
from provisioner.operations.proposal import NULL_REPORTER
from provisioner.registry.store import Registry
from provisioner.system.home import Home


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return marked_shop(tmp_path / "shop", "login")


def backup(home: Path) -> Path:
    (found,) = (home / "backups").iterdir()
    return found


def whole(cwd: Path, before: dict[str, dict[str, Any]]) -> None:
    after = {row["id"]: row for row in rows(cwd)}
    assert {each: (row["status"], row["path"]) for each, row in after.items()} == {
        each: (row["status"], row["path"]) for each, row in before.items()
    }
    for row in after.values():
        assert got(row["path"]) == row["timeline"]


@pytest.mark.timeout(600)
def test_fifty_databases_are_deleted_and_come_back_whole(repo: Path, home: Path) -> None:
    add_branches(repo, *(f"b{number}" for number in range(48)))
    ok(repo, "reconcile")
    for row in rows(repo):
        if row["timeline"] not in ("production", "git-branch/login"):
            put(row["path"], row["timeline"])
    ok(repo, "database", "archive", database_of(repo, "git-branch/b7")["id"], "--yes")
    git(repo, "branch", "-q", "-D", "b8")
    ok(repo, "reconcile")
    ok(repo, "database", "recover", database_of(repo, "git-branch/b8")["id"])
    ok(repo, "database", "snapshot", "create", "login", "--label", "kept")
    token = json.loads(ok(repo, "token", "create", "--database", database_of(repo, "production")["id"], "--json"))
    before = {row["id"]: row for row in rows(repo)}
    assert len(before) == 50

    done = provisioner(repo, "instance", "delete", "default", "--yes")
    assert done.returncode == 0, done.stderr
    assert "PRODUCTION" in done.stdout.splitlines()[1]
    assert "backed up 50 of 50" in done.stderr
    assert set(statuses(repo).values()) == {"archived"}
    assert provisioner(repo, "exec", "--", "true").returncode == 3
    assert ok(repo, "instance", "list") == ""
    (gone,) = json.loads(ok(repo, "instance", "list", "--deleted", "--json"))
    assert gone["backup"] == str(backup(home))
    ok(repo, "reconcile")
    assert set(statuses(repo).values()) == {"archived"}

    ok(repo, "instance", "recover", "default")
    whole(repo, before)
    ok(repo, "exec", "--branch", "b3", "--", "true")
    assert "kept" in ok(repo, "database", "snapshot", "list", "login")
    listed = json.loads(ok(repo, "token", "list", "--json"))
    assert [item["id"] for item in listed if not item.get("revoked_at")] == [token["id"]]
    assert ok(repo, "reconcile", "--dry-run") == "Nothing to do\n"
    assert (len(events(home, "instance.delete")), len(events(home, "instance.recover"))) == (1, 1)


def test_the_backup_holds_one_moment_of_each_database_and_says_what_it_is(
    repo: Path, home: Path, tmp_path: Path
) -> None:
    path = database_of(repo, "git-branch/login")["path"]
    with closing(sqlite3.connect(path)) as writing:  # has a log that is not in the file yet
        writing.execute("insert into kv (k, v, v_encoding, version) values (x'01', x'02', 2, 3)")
        writing.commit()
        ok(repo, "instance", "delete", "default", "--yes")
    file = backup(home)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    with tarfile.open(file) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.2 has none
        archive.extractall(tmp_path / "out")
    manifest = json.loads((tmp_path / "out/default/manifest.json").read_text())
    assert (manifest["format"], manifest["instance"], manifest["engine"]) == (1, "default", "deno-kv")
    assert [item["timeline"] for item in manifest["databases"]] == ["production", "git-branch/login"]
    for item in manifest["databases"]:
        copy = tmp_path / "out" / item["file"]
        assert sha256(copy.read_bytes()).hexdigest() == item["sha256"]
        assert copy.stat().st_size == item["size"]
        assert integrity(copy) == "ok"
        assert got(copy) == item["timeline"]
        assert item["revision"] == git(repo, "rev-parse", "HEAD").stdout.strip()
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("select v from kv where k = x'01'").fetchall() == [(b"\x02",)]

    ok(repo, "instance", "add", "fresh")
    ok(repo, "assign", "fresh")
    dump = subprocess.run(["provisioner", "database", "dump", str(copy)], capture_output=True, check=True, cwd=repo)
    subprocess.run(
        ["provisioner", "database", "load", "login", "--replace", "--yes"], input=dump.stdout, check=True, cwd=repo
    )
    live = json.loads(ok(repo, "env", "--branch", "login", "--format", "json"))["DENO_KV_DEFAULT_PATH"]
    with closing(sqlite3.connect(live)) as connection:
        assert connection.execute("select v from kv where k = x'01'").fetchall() == [(b"\x02",)]


def test_several_apps_are_named_and_all_come_back(repo: Path, tmp_path: Path) -> None:
    other = repository(tmp_path / "other", "cart")
    ok(other, "init", "--no-hooks", "--name", "other", "--grace", "0s")
    for row in rows(other):
        put(row["path"], row["timeline"])
    before, theirs = ({row["id"]: row for row in rows(each)} for each in (repo, other))
    said = ok(repo, "instance", "delete", "default", "--yes")
    assert "assigned to shop, other: 4 databases" in said
    (repo / ".git").rename(repo / "git")  # one repository is away
    assert provisioner(other, "instance", "recover", "default").returncode == 1
    whole(other, theirs)
    (repo / "git").rename(repo / ".git")
    ok(repo, "reconcile")
    whole(repo, before)


def test_nothing_is_deleted_unasked(repo: Path) -> None:
    refused = provisioner(repo, "instance", "delete", "default")
    assert (refused.returncode, "confirmation required" in refused.stderr) == (1, True)
    assert "login" in refused.stdout
    assert set(statuses(repo).values()) == {"connected"}


@pytest.mark.parametrize(("typed", "code"), [("default", 0), ("defaul", 1), ("y", 1)])
def test_on_a_terminal_its_name_has_to_be_typed(repo: Path, typed: str, code: int) -> None:
    master, slave = pty.openpty()
    asked = subprocess.Popen(
        ["provisioner", "instance", "delete", "default"], cwd=repo, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    seen = bytearray()

    def read() -> None:
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:
                return
            if not piece:
                return
            seen.extend(piece)

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: b"Type default" in seen)
    os.write(master, typed.encode() + b"\n")
    assert asked.wait(60) == code, seen
    reader.join(60)
    os.close(master)
    assert set(statuses(repo).values()) == {"archived" if code == 0 else "connected"}


def test_a_protected_timeline_keeps_its_instance(repo: Path) -> None:
    ok(repo, "timeline", "protect", "login")
    refused = provisioner(repo, "instance", "delete", "default", "--yes")
    assert (refused.returncode, "its timeline git-branch/login is protected" in refused.stderr) == (1, True)
    assert set(statuses(repo).values()) == {"connected"}


def test_a_full_disk_deletes_nothing(repo: Path, home: Path, tmp_path: Path) -> None:
    (home / "backups").mkdir(exist_ok=True)
    with small_disk(home / "backups", "size=64k"):
        path = database_of(repo, "production")["path"]
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("create table noise (x)")
            connection.execute("insert into noise values (randomblob(1000000))")
        refused = provisioner(repo, "instance", "delete", "default", "--yes")
        assert (refused.returncode, "Nothing was deleted" in refused.stderr) == (1, True)
        assert "disk full" in refused.stderr
        assert set(statuses(repo).values()) == {"connected"}
        assert list((home / "backups").iterdir()) == []
        assert ok(repo, "instance", "list", "--deleted") == ""
        ok(repo, "instance", "delete", "default", "--no-backup", "--yes")
    assert set(statuses(repo).values()) == {"archived"}
    assert list((home / "backups").iterdir()) == []


def test_a_damaged_database_is_no_silent_gap_in_the_backup(repo: Path) -> None:
    Path(database_of(repo, "git-branch/login")["path"]).write_bytes(b"garbage" * 1000)
    refused = provisioner(repo, "instance", "delete", "default", "--yes")
    assert (refused.returncode, "Nothing was deleted" in refused.stderr) == (1, True)
    assert database_of(repo, "production")["status"] == "connected"


def test_when_its_time_is_over_it_is_purged(repo: Path, home: Path) -> None:
    ok(repo, "app", "set", "--retention", "1s")
    ok(repo, "instance", "delete", "default", "--yes")
    until(lambda: ok(repo, "instance", "list", "--deleted") == "")
    refused = provisioner(repo, "instance", "recover", "default")
    assert (refused.returncode, "is over" in refused.stderr) == (1, True)
    assert str(backup(home)) in refused.stderr
    ok(repo, "reconcile")
    assert rows(repo) == []
    assert list((home / "instances/default").rglob("kv.sqlite3")) == []
    assert backup(home).exists()


def test_a_name_that_is_taken_meanwhile_is_said(repo: Path) -> None:
    before = {row["id"]: row for row in rows(repo)}
    ok(repo, "instance", "delete", "default", "--yes")
    ok(repo, "instance", "add", "default")
    refused = provisioner(repo, "instance", "recover", "default")
    assert (refused.returncode, "is now called 'default'" in refused.stderr) == (1, True)
    ok(repo, "instance", "edit", "default", "--name", "second")
    ok(repo, "instance", "recover", "default")
    whole(repo, before)
    assert provisioner(repo, "instance", "recover", "default").returncode == 3
    assert provisioner(repo, "instance", "recover", "nothing").returncode == 3


def test_of_two_deleted_by_one_name_nobody_guesses_which_is_meant(repo: Path) -> None:
    before = {row["id"]: row for row in rows(repo)}
    ok(repo, "instance", "delete", "default", "--yes")
    ok(repo, "instance", "add", "default")
    assert json.loads(ok(repo, "instance", "show", "default", "--json"))["databases"] == []
    ok(repo, "instance", "delete", "default", "--yes")
    refused = provisioner(repo, "instance", "recover", "default")
    first = json.loads(ok(repo, "instance", "list", "--deleted", "--json"))[-1]["id"]
    assert first in ok(repo, "instance", "list", "--deleted")
    assert (refused.returncode, f"{first} (2 databases" in refused.stderr) == (3, True)
    ok(repo, "instance", "recover", first)
    whole(repo, before)


def test_a_database_of_a_deleted_instance_comes_back_with_that_only(repo: Path) -> None:
    ok(repo, "instance", "delete", "default", "--yes")
    refused = provisioner(repo, "database", "recover", database_of(repo, "git-branch/login")["id"])
    assert (refused.returncode, "instance recover default" in refused.stderr) == (1, True)


def test_who_wants_to_run_something_meanwhile_is_told_what_happened(repo: Path) -> None:
    ok(repo, "instance", "delete", "default", "--yes")
    refused = provisioner(repo, "exec", "--", "true")
    assert (refused.returncode, "'default' of app 'shop' was deleted" in refused.stderr) == (3, True)
    ok(repo, *refused.stderr.strip().rpartition(": provisioner ")[2].split())
    ok(repo, "exec", "--", "true")


def test_init_makes_no_empty_databases_in_the_place_of_deleted_ones(repo: Path) -> None:
    before = {row["id"]: row for row in rows(repo)}
    ok(repo, "instance", "delete", "default", "--yes")
    refused = provisioner(repo, "init")
    assert (refused.returncode, "instance recover" in refused.stderr) == (1, True)
    assert json.loads(ok(repo, "instance", "list", "--json")) == []
    ok(repo, "instance", "recover", "default")
    ok(repo, "init", "--no-hooks")
    whole(repo, before)


def test_another_instance_of_the_app_goes_on(repo: Path) -> None:
    ok(repo, "instance", "add", "other")
    ok(repo, "assign", "other")
    ok(repo, "instance", "delete", "default", "--yes")
    found = json.loads(ok(repo, "env", "--format", "json"))
    assert "DEFAULT_KV_PATH" not in found
    assert found["DENO_KV_DEFAULT_PATH"] == found["OTHER_KV_PATH"]
    add_branches(repo, "later")
    ok(repo, "reconcile")
    ok(repo, "instance", "recover", "default")
    found = json.loads(ok(repo, "env", "--branch", "later", "--format", "json"))
    assert found["DENO_KV_DEFAULT_PATH"] == found["DEFAULT_KV_PATH"]
    assert got(json.loads(ok(repo, "env", "--format", "json"))["DEFAULT_KV_PATH"]) == "production"


def test_a_server_that_runs_lets_nobody_in_until_it_is_back(repo: Path, home: Path) -> None:
    (repo / "main.ts").write_text("const kv = await Deno.openKv(); console.log((await kv.get(['n'])).versionstamp);")
    with daemon(home, "provisioner", "serve", "--port", "0", announced="server"):
        deno = ("exec", "--", DENO, "run", "-A", "--quiet", "main.ts")
        assert ok(repo, *deno) == "null\n"
        found = json.loads(ok(repo, "env", "--format", "json"))
        ok(repo, "instance", "delete", "default", "--yes")
        refused = run(repo, DENO, "run", "-A", "--quiet", "main.ts", add=found)
        assert refused.returncode != 0
        ok(repo, "instance", "recover", "default")
        assert run(repo, DENO, "run", "-A", "--quiet", "main.ts", add=found).returncode != 0  # its token has ended
        assert ok(repo, *deno) == "null\n"


def test_what_happens_to_branches_meanwhile_happens_to_its_databases(repo: Path) -> None:
    add_branches(repo, "goes")
    ok(repo, "reconcile")
    ok(repo, "instance", "delete", "default", "--yes")
    git(repo, "branch", "-q", "-m", "login", "sign-in")
    git(repo, "branch", "-q", "-D", "goes")
    ok(repo, "reconcile")
    ok(repo, "instance", "recover", "default")
    found = {row["timeline"]: row for row in rows(repo)}
    assert got(found["git-branch/sign-in"]["path"]) == "git-branch/login"
    assert {name: row["status"] for name, row in found.items()} == {
        "production": "connected",
        "git-branch/sign-in": "connected",
        "git-branch/goes": "archived",
    }
    assert found["git-branch/goes"]["purge_at"] is not None
    assert ok(repo, "reconcile", "--dry-run") == "Nothing to do\n"


@pytest.mark.parametrize("point", [*points("delete"), "delete.copied:2", *points("archive")])
def test_a_kill_9_while_deleting(repo: Path, home: Path, point: str) -> None:
    before = {row["id"]: row for row in rows(repo)}
    killed(repo, point, "instance", "delete", "default", "--yes")
    gone = ok(repo, "instance", "list") == ""
    assert gone == (not point.startswith(("delete.copied", "delete.backed")))
    ok(repo, "reconcile")
    if gone:
        assert set(statuses(repo).values()) == {"archived"}
    else:
        whole(repo, before)
        ok(repo, "instance", "delete", "default", "--yes")
    assert not list((home / "backups").glob("unfinished-*"))
    ok(repo, "instance", "recover", "default")
    whole(repo, before)


@pytest.mark.parametrize("point", [*points("undelete"), *points("recover")])
def test_a_kill_9_while_recovering(repo: Path, point: str) -> None:
    before = {row["id"]: row for row in rows(repo)}
    ok(repo, "instance", "delete", "default", "--yes")
    killed(repo, point, "instance", "recover", "default")
    ok(repo, "reconcile")
    whole(repo, before)


@pytest.mark.parametrize("backup", [True, False])
def test_what_is_protected_between_question_and_deletion_keeps_its_instance(
    tmp_path: Path, home: Path, backup: bool
) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    with Registry.open(Home(str(home))) as registry:
        (instance,) = registry.instances()
        deletion = instance_deletion.delete(registry, instance, backup=backup)
        ok(repo, "timeline", "protect", "login")
        with pytest.raises(ProvisionerError, match="protected"):
            list(deletion.do(NULL_REPORTER))
    assert set(statuses(repo).values()) == {"connected"}
