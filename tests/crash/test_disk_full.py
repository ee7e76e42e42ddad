"""A disk without space or inodes is an error that says so, and `fix` mends everything once there is some."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from support import (
    add_branches,
    bare,
    branches,
    connected,
    git,
    got,
    ok,
    provisioner,
    put,
    remount,
    repository,
    rows,
    shop,
    small_disk,
    statuses,
)

MANY = tuple(f"b{number}" for number in range(80))


@pytest.mark.parametrize(
    ("full", "freed"), [("size=1m", "size=32m"), ("size=32m,nr_inodes=30", "size=32m,nr_inodes=2000")]
)
def test_a_full_instance(tmp_path: Path, full: str, freed: str) -> None:
    with small_disk(tmp_path / "disk", full) as disk:
        repo = repository(tmp_path / "shop")
        ok(repo, "instance", "add", "small", "--directory", str(disk / "databases"))
        ok(repo, "init", "--no-hooks", "--name", "shop")
        (production,) = rows(repo)
        assert production["instance"] == "small"
        put(production["path"], "precious")

        add_branches(repo, *MANY)
        result = provisioner(repo, "reconcile")
        assert (result.returncode, result.stdout) == (1, "")
        assert "disk full" in result.stderr
        assert "provisioner database fix --all" in result.stderr
        failed = [row for row in rows(repo) if row["status"] == "error"]
        assert failed
        assert all("disk full" in row["error"] for row in failed)
        assert statuses(repo)["production"] == "connected"
        branch = failed[0]["timeline"].removeprefix("git-branch/")
        refused = provisioner(repo, "exec", "--branch", branch, "--", "echo", "ran")
        assert (refused.returncode, refused.stdout) == (3, "")
        assert provisioner(repo, "database", "fix", "--all").returncode == 1

        remount(disk, freed)
        ok(repo, "database", "fix", "--all")
        assert set(statuses(repo).values()) == {"connected"}
        assert len(rows(repo)) == len(MANY) + 1
        assert got(production["path"]) == "precious"


@pytest.mark.parametrize(
    "words",
    [
        ("database", "fork", "production", "login", "--yes"),
        ("database", "snapshot", "create", "production"),
        ("database", "dump", "production"),
        ("database", "diff", "production", "login"),
        ("kv", "list", "--timeline", "production"),
    ],
)
def test_what_sqlite_calls_an_input_or_output_error_is_called_a_full_disk(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        repo = repository(tmp_path / "shop", "login")
        ok(repo, "instance", "add", "small", "--directory", str(disk / "databases"))
        ok(repo, "init", "--no-hooks", "--name", "shop")
        filled = _fill(disk, 0)
        refused = provisioner(repo, *words)
        assert refused.returncode == 1
        assert "disk full" in refused.stderr
        filled.unlink()
        ok(repo, *words)


def _fill(directory: Path, leave: int) -> Path:
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(b"\0" * 4096)
        file.truncate(max(0, filler.stat().st_size - leave))
    return filler


@pytest.mark.parametrize("leave", [0, 64 * 1024, 200 * 1024])
def test_a_full_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave: int) -> None:
    with small_disk(tmp_path / "disk", "size=5m") as disk:
        monkeypatch.setenv("PROVISIONER_HOME", str(disk / "home"))
        repo = repository(tmp_path / "shop", "login")
        ok(repo, "init", "--no-hooks", "--name", "shop")
        for row in rows(repo):
            put(row["path"], row["timeline"])

        add_branches(repo, *MANY)
        filler = _fill(disk, leave)
        result = provisioner(repo, "reconcile")
        assert (result.returncode, result.stdout) == (1, "")
        assert "disk full" in result.stderr or "no space is left" in result.stderr
        failed = [row["error"] for row in rows(repo) if row["status"] != "connected"]
        assert failed
        assert all("disk full" in (error or "") for error in failed), (result, failed)
        refused = provisioner(repo, "exec", "--branch", MANY[-1], "--", "echo", "ran")
        assert (refused.returncode, refused.stdout) == (3, "")

        filler.unlink()
        ok(repo, "database", "fix", "--all")
        assert set(statuses(repo).values()) == {"connected"}
        assert len(rows(repo)) == len(MANY) + 2
        kept = {row["timeline"]: got(row["path"]) for row in rows(repo)}
        assert {timeline for timeline, text in kept.items() if text == timeline} == {"production", "git-branch/login"}


@pytest.mark.parametrize("left", [0, 1, 2, 5])
def test_a_home_without_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int) -> None:
    with small_disk(tmp_path / "disk", "size=32m,nr_inodes=600") as disk:
        monkeypatch.setenv("PROVISIONER_HOME", str(disk / "home"))
        repo = repository(tmp_path / "shop", "login")
        hub = bare(tmp_path / "hub.git", repo)
        ok(hub, "init", "--name", "hub")
        ok(repo, "init", "--no-hooks", "--name", "shop")
        for row in rows(repo):
            put(row["path"], row["timeline"])
        fillers = _fill_inodes(disk)
        for path in fillers[:left]:
            path.unlink()

        add_branches(repo, *MANY)
        result = provisioner(repo, "reconcile")
        assert (result.returncode, result.stdout) == (1, "")
        assert "no inodes are left" in result.stderr or "no space is left" in result.stderr
        assert "nodes free. Free some" in provisioner(repo, "doctor").stdout
        refused = provisioner(repo, "exec", "--branch", MANY[-1], "--", "echo", "ran")
        assert (refused.returncode, refused.stdout) == (3, "")
        pushed = git(repo, "push", "hub", "main:pushed")
        assert "provisioner: no space is left" in pushed.stderr or "pushed error" in pushed.stderr

        for path in fillers[left:]:
            path.unlink()
        ok(repo, "database", "fix", "--all")
        assert connected(repo) == branches(repo)
        assert connected(hub) == branches(hub)
        kept = {row["timeline"]: got(row["path"]) for row in rows(repo)}
        assert {timeline for timeline, text in kept.items() if text == timeline} == {"production", "git-branch/login"}


def _fill_inodes(directory: Path) -> list[Path]:
    made: list[Path] = []
    with suppress(OSError):
        while True:
            path = directory / f"filler-{len(made)}"
            path.touch()
            made.append(path)
    return made


def test_what_only_shows_something_may_use_the_reserve_of_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", "size=8m") as disk:
        monkeypatch.setenv("PROVISIONER_HOME", str(disk / "home"))
        repo = shop(tmp_path / "shop", "login")
        ok(repo, "var", "set", "A=1")  # which keeps space in reserve
        assert (disk / "home" / "reserve").exists()
        filler = _fill(disk, 0)
        assert "connected" in ok(repo, "status")
        assert not (disk / "home" / "reserve").exists()
        filler.unlink()
        ok(repo, "var", "set", "A=2")
        assert (disk / "home" / "reserve").exists()
