"""Repositories, homes and small file systems for the tests that need a machine of a certain kind."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent
PROVISIONER = str(BIN / "provisioner")
DENO = str(BIN / "deno")
# Read before the tests' own environment hides it.
IN_CI = bool(os.environ.get("CI"))


def git(cwd: Path, *args: str | bytes, stdin: bytes = b"") -> bytes:
    result = subprocess.run(["git", *args], cwd=cwd, input=stdin, capture_output=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def run(cwd: Path, *args: str | bytes, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROVISIONER, *args],
        cwd=cwd,
        capture_output=True,
        env={**os.environ, **environ},
        encoding="utf-8",
        errors="surrogateescape",
        stdin=subprocess.DEVNULL,
    )


def ok(cwd: Path, *args: str | bytes, **environ: str) -> str:
    result = run(cwd, *args, **environ)
    assert result.returncode == 0, result.stderr
    return result.stdout


def repository(path: Path, *branches: str) -> Path:
    """A repository on `main` with one commit and these branches."""
    path.mkdir(parents=True, exist_ok=True)
    git(path, "init", "-q", "-b", "main")
    git(path, "commit", "-q", "--allow-empty", "-m", "first")
    add_branches(path, *branches)
    return path


def add_branches(path: Path, *branches: str) -> None:
    lines = "".join(f"create refs/heads/{branch} HEAD\n" for branch in branches)
    head = git(path, "rev-parse", "HEAD").decode().strip()
    git(path, "update-ref", "--stdin", stdin=lines.replace(" HEAD\n", f" {head}\n").encode())


def shop(path: Path, *branches: str, options: tuple[str, ...] = ("--grace", "0s")) -> Path:
    """A registered repository without hooks, so that nothing but the test's own commands reconciles."""
    repository(path, *branches)
    ok(path, "init", "--no-hooks", "--name", "shop", *options)
    return path


def rows(repo: Path) -> list[dict[str, Any]]:
    """Every database of the app, as `database list --json` has it."""
    listed: list[dict[str, Any]] = json.loads(ok(repo, "database", "list", "--json"))
    return listed


def statuses(repo: Path) -> dict[str, str]:
    """The status of each timeline's database; the last one listed where there are several."""
    return {row["timeline"]: row["status"] for row in rows(repo)}


def database_of(repo: Path, timeline: str) -> dict[str, Any]:
    (found,) = [row for row in rows(repo) if row["timeline"] == timeline]
    return found


def mark(path: str, text: str) -> None:
    """Write an acknowledged row, as an app would."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("insert into kv (k, v, v_encoding, version) values (?, ?, 1, 1)", (b"marker", text.encode()))


def marker(path: str) -> str | None:
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("select v from kv where k = ?", (b"marker",)).fetchone()
    return None if row is None else row[0].decode()


def need_root() -> None:
    """Mounting is for root, which CI is."""
    if os.geteuid() != 0:
        if IN_CI:
            pytest.fail("CI has to run this as root")
        pytest.skip("mounting a small file system is for root")


@contextmanager
def small_disk(path: Path, options: str) -> Iterator[Path]:
    need_root()
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def remount(path: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(path)], check=True)
