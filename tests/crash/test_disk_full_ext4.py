"""A wholly full disk: what exists works while the home's reserve lasts; after that, one line says what is full."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from small_disks import disk, fill
from support import bare, git, ok, provisioner, rows, shop

from provisioner.core.errors import ProvisionerError
from provisioner.kv.errors import StoreFailed
from provisioner.kv.stores.sqlite.store import SqliteStore
from provisioner.registry.exec_lookup import Resolver
from provisioner.system.home import Home

FULL = "no space is left for the registry"
DAILY = (
    ("exec", "--", "printenv", "DENO_TIMELINE"),
    ("env",),
    ("status",),
    ("kv", "get", '["a"]'),
)


@pytest.mark.parametrize("blocks", ["1024", "4096"])
def test_the_reserve_and_then_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: str) -> None:
    with disk("ext4", tmp_path, "-b", blocks) as directory:
        monkeypatch.setenv("PROVISIONER_HOME", str(directory / "home"))
        repo = shop(tmp_path / "shop", "login")
        ok(repo, "hooks", "install")
        hub = bare(tmp_path / "hub.git", repo)
        ok(hub, "init", "--name", "hub")
        ok(repo, "kv", "set", '["a"]', "1")
        filler = fill(directory)
        for words in DAILY:
            assert ok(repo, *words)

        again = fill(directory.joinpath("home"))
        for words in DAILY:
            done = provisioner(repo, *words)
            assert (done.returncode, done.stdout) == (1 if words == ("status",) else 3, ""), done
            assert FULL in done.stderr
            assert done.stderr.count("\n") == 1
        doctor = provisioner(repo, "doctor")
        assert (doctor.returncode, FULL in doctor.stdout) == (1, True), doctor
        git(repo, "switch", "-q", "-c", "made")
        git(repo, "commit", "-q", "--allow-empty", "-m", "while it is full")
        pushed = git(repo, "push", "-q", str(hub), "made")
        assert FULL in pushed.stderr

        for path in (filler, again):
            path.unlink()
        ok(repo, "database", "fix", "--all")
        assert {row["timeline"] for row in rows(repo) if row["status"] == "connected"} == {
            "production",
            "git-branch/login",
            "git-branch/made",
        }
        assert ok(repo, "kv", "get", "--branch", "main", '["a"]') == "1\n"


def test_an_index_without_blocks_ends_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite writes one byte in 4096 of it, so a disk with blocks of 1024 bytes has room for a part of each page."""
    with disk("ext4", tmp_path, "-b", "1024", "-m", "0") as directory:
        home = directory / "home"
        monkeypatch.setenv("PROVISIONER_HOME", str(home))
        path = rows(shop(tmp_path / "shop"))[0]["path"]
        (home / "reserve").unlink()
        ended = set()
        for leave in (10, 20, 30, 60):
            filler = fill(directory, leave << 10)
            ended |= {_ended(lambda: Resolver(Home(str(home)))), _ended(lambda: SqliteStore(path).close())}
            filler.unlink()
            os.sync()
        assert ended == {0, 1}


def _ended(opening: Callable[[], object]) -> int:
    """How a process ends that does this: 1 if it is refused."""
    child = os.fork()
    if child == 0:
        try:
            opening()
            os._exit(0)
        except (ProvisionerError, StoreFailed):
            os._exit(1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
