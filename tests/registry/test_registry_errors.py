"""What keeps a command from the registry is called what it is, with its next step: on real files and file systems."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from support import ok, provisioner, remount, rows, shop, small_disk

from provisioner.core.errors import StorageFailed
from provisioner.registry.schema_version import VERSION
from provisioner.registry.store import Registry
from provisioner.system.home import Home

COMMANDS = {("status",): 1, ("reconcile",): 1, ("var", "set", "A=1"): 1, ("exec", "--", "echo", "ran"): 3, ("env",): 3}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop")


def refused(repo: Path, *says: str, commands: dict[tuple[str, ...], int] = COMMANDS) -> None:
    """Each of the commands says so in one line, and nothing of other faults."""
    for words, code in commands.items():
        done = provisioner(repo, *words)
        assert (done.returncode, done.stdout) == (code, ""), (words, done)
        for text in says:
            assert text in done.stderr, (words, done.stderr)
        others = {"corrupt", "read-only file system", "no space", "locked"} - set(says)
        assert not [text for text in others if text in done.stderr], (words, done.stderr)
        assert done.stderr.count("\n") == 1, (words, done.stderr)


def sql(home: Path, *statements: str) -> None:
    with closing(sqlite3.connect(home / "registry.db", isolation_level=None)) as registry:
        for statement in statements:
            registry.execute(statement)
        registry.execute("pragma wal_checkpoint(truncate)")


def test_a_table_that_is_missing(repo: Path, home: Path) -> None:
    sql(home, "pragma foreign_keys = off", "drop trigger if exists database_owner", "drop table variable")
    refused(repo, "no such table: variable", "backup", commands={("var", "list"): 1, ("exec", "--", "true"): 3})


def test_a_registry_that_a_newer_version_has_changed_while_it_is_used(repo: Path, home: Path) -> None:
    with Registry.open(Home(str(home))) as registry:
        sql(home, "alter table variable rename to variables", f"pragma user_version = {VERSION + 1}")
        with pytest.raises(StorageFailed, match="written by a newer provisioner") as error:
            registry.rows("select * from variable")
        assert "Upgrade" in error.value.hint
        sql(home, f"pragma user_version = {VERSION - 1}")
        with pytest.raises(StorageFailed, match="replaced by an older one") as error:
            registry.rows("select * from variable")
        assert "Restart this program" in error.value.hint


def not_a_database(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


def damaged_inside(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))


@pytest.mark.parametrize("damage", [not_a_database, damaged_inside])
def test_real_corruption(repo: Path, home: Path, damage: Callable[[Path], None]) -> None:
    sql(home)
    for suffix in ("-wal", "-shm"):
        (home / f"registry.db{suffix}").unlink(missing_ok=True)
    damage(home / "registry.db")
    refused(repo, "corrupt", "backup", ".recover")


def test_another_process_has_it_locked(repo: Path, home: Path) -> None:
    with closing(sqlite3.connect(home / "registry.db", isolation_level=None)) as holder:
        holder.execute("pragma locking_mode = exclusive")
        holder.execute("begin exclusive")
        holder.execute("update organization set slug = slug")
        refused(repo, "locked", "provisioner doctor", commands={("status",): 1, ("exec", "--", "true"): 3})
        found = provisioner(repo, "doctor")
        assert "corrupt" not in found.stdout
        assert "locked" in found.stdout


def test_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", "size=8m") as disk:
        monkeypatch.setenv("PROVISIONER_HOME", str(disk / "home"))
        repo = shop(tmp_path / "shop")
        remount(disk, "ro")
        refused(
            repo,
            "read-only file system",
            "remount,rw",
            commands={words: code for words, code in COMMANDS.items() if words != ("status",)},
        )
        remount(disk, "rw")
        ok(repo, "exec", "--", "true")


def test_a_full_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", "size=5m") as disk:
        monkeypatch.setenv("PROVISIONER_HOME", str(disk / "home"))
        repo = shop(tmp_path / "shop")
        (disk / "home" / "reserve").unlink()
        with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        refused(repo, "no space", "Free space", commands={("var", "set", "A=1"): 1})
        (disk / "filler").unlink()
        ok(repo, "var", "set", "A=1")


def limited(repo: Path, *words: str, limit: int, value: int) -> subprocess.CompletedProcess[str]:
    """The command with one of its process's limits set."""
    return subprocess.run(
        [sys.executable, "-m", "provisioner", *words],
        cwd=repo,
        preexec_fn=lambda: resource.setrlimit(limit, (value, value)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_error_of_the_disk(repo: Path) -> None:
    done = limited(repo, "var", "set", f"A={'x' * 15000}", limit=resource.RLIMIT_FSIZE, value=4096)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert "disk I/O error" in done.stderr
    assert "doctor" in done.stderr
    assert "this user" not in done.stderr
    assert "corrupt" not in done.stderr
    ok(repo, "var", "set", "A=1")


def test_no_file_descriptor_left(repo: Path, home: Path) -> None:
    ok(repo, "status")
    held = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for fd in held[-2:]:
            os.close(fd)
        del held[-2:]
        with pytest.raises(StorageFailed, match="too many files are open") as error:
            Registry.open(Home(str(home)))
        assert "ulimit -n" in error.value.hint
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user(tmp_path: Path, repo: Path, home: Path) -> None:
    code = (
        "import os\nfrom provisioner.registry.store import Registry\nfrom provisioner.system.home import Home\n"
        "from provisioner.system import home_state\nos.setgid(65534); os.setuid(65534)\n"
        f"Registry.open(Home({str(home)!r})).write('update organization set slug = slug')"
    )
    for directory in (home, *home.parents):
        if directory.stat().st_uid == 0 and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    for name in ("registry.db", "identity"):
        (home / name).chmod(0o644)
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=False)
    assert "cannot be written by this user" in done.stderr.splitlines()[-1], done.stderr
    assert "PROVISIONER_HOME" in done.stderr.splitlines()[-1]


def test_a_registry_that_was_replaced_while_it_is_used(repo: Path, home: Path) -> None:
    with Registry.open(Home(str(home))) as registry:
        shutil.copy(home / "registry.db", home / "restored.db")
        (home / "restored.db").rename(home / "registry.db")
        with pytest.raises(StorageFailed, match="was replaced") as error:
            registry.write("update organization set slug = slug")
        assert "Restart this program" in error.value.hint
    assert rows(repo)


def test_a_statement_that_is_wrong_is_called_a_bug(repo: Path, home: Path) -> None:
    with Registry.open(Home(str(home))) as registry, pytest.raises(StorageFailed, match="bug in provisioner"):
        registry.write("insert into organization (id, slug) values (null, 'twice')")
