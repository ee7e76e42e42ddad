"""What is shown of a commit: any commit that git stores is read, and none hides the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import commit, git, repository

from provisioner.git.commit_info import commit_info, commit_infos

LATEST = 253402300799000  # what a date can be: the year 9999


def _stored(repo: Path, text: str) -> str:
    """A commit with this text, which git itself would not write."""
    file = repo.parent / "commit"
    file.write_text(text)
    return git(repo, "hash-object", "-t", "commit", "-w", "--literally", str(file)).stdout.strip()


def _committed(repo: Path, message: str) -> str:
    commit(repo, message)
    return git(repo, "rev-parse", "HEAD").stdout.strip()


@pytest.mark.parametrize(
    "committer", ["M <m@e>", "M <m@e> soon +0000", "M", "M <m@e> -5 +0000", "M <m@e> 99999999999999999999 +0000"]
)
def test_a_commit_without_a_readable_time_is_shown_like_any_other(tmp_path: Path, committer: str) -> None:
    repo = repository(tmp_path / "shop")
    tree = git(repo, "rev-parse", "HEAD^{tree}").stdout.strip()
    odd = _stored(repo, f"tree {tree}\nauthor A <a@e> 1 +0000\ncommitter {committer}\n\nodd\n")
    plain = _committed(repo, "plain")
    found = commit_infos(os.fsencode(repo / ".git"), [odd, plain])
    assert {found[odd].subject, found[plain].subject} == {"odd", "plain"}
    assert 0 <= found[odd].at <= LATEST
    assert found[plain].at > 0


def test_a_message_whose_encoding_can_express_a_null_byte_hides_no_other_commit(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop")
    tree = git(repo, "rev-parse", "HEAD^{tree}").stdout.strip()
    odd = _stored(
        repo, f"tree {tree}\nauthor A <a@e> 1 +0000\ncommitter C <c@e> 2 +0000\nencoding UTF-7\n\na+AAAAAAAA-b\n"
    )
    plain = _committed(repo, "plain")
    found = commit_infos(os.fsencode(repo / ".git"), [odd, plain])
    assert (found[plain].subject, found[odd].at) == ("plain", 2000)


@pytest.mark.parametrize("message", ["", "\n", "\n\n[skip ci]\n", "\n\n\nlate\n\n"])
def test_a_commit_without_a_subject_hides_no_other(tmp_path: Path, message: str) -> None:
    repo = repository(tmp_path / "shop")
    git_dir = os.fsencode(repo / ".git")
    tree = git(repo, "rev-parse", "HEAD^{tree}").stdout.strip()
    odd = _stored(repo, f"tree {tree}\nauthor A <a@e> 1 +0000\ncommitter C <c@e> 2 +0000\n\n{message}")
    plain = _committed(repo, "plain [skip ci]")
    found = commit_infos(git_dir, [odd, plain])
    assert (found[plain].subject, found[plain].skips_deployment) == ("plain [skip ci]", True)
    assert (found[odd].author, found[odd].at, found[odd].skips_deployment) == ("A", 2000, "[skip ci]" in message)
    assert commit_info(git_dir, odd) == found[odd]
