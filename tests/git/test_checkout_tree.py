"""Checkouts for commands: what they may take, and that they end when they are to."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from support import git, repository

from provisioner.core.errors import UnreadableRepository
from provisioner.git.checkout_tree import CheckoutLimits, CheckoutStopped, TooLarge, check_out

ANY = CheckoutLimits(0, 0, 0)


def never() -> bool:
    return False


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def of_files(path: Path, number: int, size: int = 1) -> tuple[bytes, str]:
    """A repository whose commit has so many files, and the commit."""
    repo = repository(path)
    stream = ["commit refs/heads/big", "committer x <x@example.org> 0 +0000", "data 0"]
    for count in range(number):
        stream += [f"M 100644 inline d{count % 100}/f{count}", f"data {size}", "x" * size]
    subprocess.run(["git", "fast-import", "--quiet"], cwd=repo, input="\n".join([*stream, ""]).encode(), check=True)
    return os.fsencode(repo / ".git"), git(repo, "rev-parse", "big").stdout.strip()


def names(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


def test_files_beyond_the_limit_are_not_written(tmp_path: Path, place: Path) -> None:
    git_dir, commit = of_files(tmp_path / "repo", 1000)
    with pytest.raises(TooLarge, match="more than 999 files"):
        check_out(git_dir, commit, str(place), CheckoutLimits(999, 0, 0), never)
    assert names(place) == []
    check_out(git_dir, commit, str(place), CheckoutLimits(1000, 1000, 60), never)
    assert len(names(place)) == 1000
    assert not place.with_name("place.index").exists()


def test_bytes_beyond_the_limit_are_not_written(tmp_path: Path, place: Path) -> None:
    git_dir, commit = of_files(tmp_path / "repo", 10, 10_000)
    with pytest.raises(TooLarge, match="more than 99999 bytes"):
        check_out(git_dir, commit, str(place), CheckoutLimits(0, 99_999, 0), never)
    assert names(place) == []
    check_out(git_dir, commit, str(place), CheckoutLimits(0, 100_000, 0), never)


def test_it_ends_when_it_is_to_stop_or_its_time_is_over(tmp_path: Path, place: Path) -> None:
    git_dir, commit = of_files(tmp_path / "repo", 1)
    (place.parent / "slow").write_text("#!/bin/sh\nsleep 600\n")
    (place.parent / "slow").chmod(0o755)
    repo = tmp_path / "repo"
    git(repo, "config", "filter.slow.smudge", str(place.parent / "slow"))
    (repo / ".git" / "info").mkdir(exist_ok=True)
    (repo / ".git" / "info" / "attributes").write_text("* filter=slow\n")
    answers = iter([False, False])
    with pytest.raises(CheckoutStopped):
        check_out(git_dir, commit, str(place), ANY, lambda: next(answers, True))
    began = time.monotonic()
    with pytest.raises(TooLarge, match="took longer than 1 s"):
        check_out(git_dir, commit, str(place), CheckoutLimits(0, 0, 1), never)
    assert time.monotonic() - began < 60


def test_a_disk_that_it_would_fill_is_left_alone(tmp_path: Path, place: Path) -> None:
    git_dir, commit = of_files(tmp_path / "repo", 2000)
    with pytest.raises(TooLarge, match="would fill the disk"):
        check_out(git_dir, commit, str(place), CheckoutLimits(0, 0, 0, 1 << 60), never)


def test_git_says_what_is_wrong_with_a_revision(tmp_path: Path, place: Path) -> None:
    git_dir, _ = of_files(tmp_path / "repo", 1)
    with pytest.raises(UnreadableRepository, match="cannot check out"):
        check_out(git_dir, "0" * 40, str(place), CheckoutLimits(1, 1, 0), never)
