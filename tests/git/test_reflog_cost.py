"""Reading the reflogs of many branches costs what has changed, and misses nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import git, repository

from provisioner.git import reflog
from provisioner.git.reflog import read_logs


def _age(directory: Path, seconds: int) -> None:
    moment = directory.stat().st_mtime - seconds
    os.utime(directory, (moment, moment))


def test_only_directories_that_changed_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = repository(tmp_path / "shop", "a", "feature/a", "feature/b", "fix/a", "fix/z")
    git(shop, "branch", "-m", "feature/b", "feature/c")
    common = os.fsencode(shop / ".git")
    logs = shop / ".git/logs/refs/heads"
    read: list[bytes] = []
    original = reflog._read

    def counted(path: bytes) -> bytes:
        read.append(path.removeprefix(os.fsencode(logs) + b"/"))
        return original(path)

    monkeypatch.setattr(reflog, "_read", counted)
    branches = [b"main", b"a", b"feature/a", b"feature/c", b"fix/z", b"fix/a"]

    def renamed() -> dict[bytes, list[bytes]]:
        read.clear()
        return {name: [move.old for move in log.moves] for name, log in read_logs(common, branches).items()}

    for _ in range(2):  # what changed just now may still be in the making
        assert renamed() == {b"feature/c": [b"feature/b"]}
        assert sorted(read) == sorted(branches)
    for directory in (logs, logs / "feature", logs / "fix"):
        _age(directory, 120)
    assert renamed() == {b"feature/c": [b"feature/b"]}
    assert renamed() == {b"feature/c": [b"feature/b"]}
    assert read == []

    git(shop, "branch", "-m", "fix/a", "fix/b")
    branches[-1] = b"fix/b"
    assert renamed() == {b"feature/c": [b"feature/b"], b"fix/b": [b"fix/a"]}
    assert sorted(read) == [b"fix/b", b"fix/z"]
    git(shop, "branch", "-M", "fix/b", "feature/a")
    branches.pop()
    assert renamed() == {b"feature/c": [b"feature/b"], b"feature/a": [b"fix/a", b"fix/b"]}
    assert sorted(read) == [b"feature/a", b"feature/c", b"fix/z"]
