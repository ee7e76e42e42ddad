"""What refs, worktrees and reflogs say is what real git says, in every kind of repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import git

from provisioner.core.errors import NotResolved, UnreadableRepository
from provisioner.git.refs import default_branch, is_mirror, read_branches, still_there
from provisioner.git.worktree import current_branch, find_checkout, origin_directory


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    for message in ("one", "two", "three"):
        git(path, "commit", "--quiet", "--allow-empty", "-m", message)
    return path


def common(path: Path) -> bytes:
    checkout = find_checkout(os.fsencode(path))
    assert checkout is not None
    return checkout.common_dir


def by_git(path: Path) -> dict[bytes, str]:
    listing = git(path, "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", "refs/heads").stdout
    return {os.fsencode(line.split(" ")[0]): line.split(" ")[1] for line in listing.splitlines()}


def on(path: Path, **environ: str) -> str:
    checkout = find_checkout(os.fsencode(path))
    assert checkout is not None
    return os.fsdecode(current_branch(checkout, environ).name)


def test_branches_are_those_of_git_loose_packed_and_symbolic(repository: Path) -> None:
    git(repository, "branch", "a/b")
    git(repository, "branch", "packed")
    git(repository, "pack-refs", "--all")
    git(repository, "branch", "-f", "packed", "HEAD~1")
    git(repository, "branch", "loose")
    git(repository, "symbolic-ref", "refs/heads/alias", "refs/heads/a/b")
    git(repository, "worktree", "add", "--quiet", "../linked", "-b", "linked")
    assert read_branches(common(repository)) == by_git(repository)
    assert read_branches(common(repository.parent / "linked")) == by_git(repository)


def test_a_repository_that_libgit2_cannot_read_is_read_through_git(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--object-format=sha256", "--initial-branch=main")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "one")
    git(tmp_path, "branch", "other")
    branches = read_branches(common(tmp_path))
    assert branches == by_git(tmp_path)
    assert len(branches[b"main"]) == 64


def test_a_branch_name_need_not_be_utf8(repository: Path) -> None:
    git(repository, "update-ref", os.fsdecode(b"refs/heads/\xff\xfe"), "HEAD")
    assert b"\xff\xfe" in read_branches(common(repository))


def test_a_repository_that_is_gone_is_not_one_without_branches(repository: Path) -> None:
    directory = common(repository)
    (repository / ".git").rename(repository / "moved")
    with pytest.raises(UnreadableRepository):
        read_branches(directory)
    with pytest.raises(UnreadableRepository):
        still_there(directory, [b"main"])


def test_a_lookup_by_name_finds_what_a_listing_can_miss(repository: Path) -> None:
    git(repository, "branch", "a/b")
    directory = common(repository)
    assert still_there(directory, [b"gone", b"a/b"])
    git(repository, "pack-refs", "--all")
    assert still_there(directory, [b"a/b"])
    assert not still_there(directory, [b"a", b"gone"])


def test_the_default_branch_is_the_remotes_or_the_usual_one(repository: Path, tmp_path: Path) -> None:
    git(repository, "branch", "-m", "main", "trunk")
    assert default_branch(common(repository), {b"trunk"}) == b"trunk"
    git(tmp_path, "clone", "--quiet", str(repository), "clone")
    git(tmp_path / "clone", "switch", "--quiet", "-c", "feature")
    assert default_branch(common(tmp_path / "clone"), {b"feature"}) == b"trunk"


def test_a_mirror_is_known_by_its_remote(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", "--mirror", str(repository), "mirror")
    assert is_mirror(common(tmp_path / "mirror"))
    assert not is_mirror(common(repository))


def test_a_clone_knows_the_repository_on_this_machine_that_it_came_from(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(repository), "clone")
    assert origin_directory(common(tmp_path / "clone")) == common(repository)
    git(tmp_path / "clone", "remote", "set-url", "origin", "https://example.com/shop.git")
    assert origin_directory(common(tmp_path / "clone")) is None


def test_a_directory_is_on_the_branch_that_git_says(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "--quiet", "../linked", "-b", "linked/one")
    (repository / "below").mkdir()
    assert on(repository / "below") == "main"
    assert on(tmp_path / "linked") == "linked/one"
    git(repository, "switch", "--quiet", "--orphan", "unborn")
    checkout = find_checkout(os.fsencode(repository))
    assert checkout is not None
    assert current_branch(checkout, {}).unborn


def test_a_submodule_is_a_repository_of_its_own(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "outer")
    add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repository), "inner")
    git(tmp_path / "outer", *add)
    assert common(tmp_path / "outer" / "inner") == os.fsencode(tmp_path / "outer" / ".git" / "modules" / "inner")
    assert on(tmp_path / "outer" / "inner") == "main"


def test_a_rebase_and_a_bisect_are_on_the_branch_they_go_back_to(repository: Path) -> None:
    git(repository, "switch", "--quiet", "-c", "work")
    (repository / "file").write_text("ours")
    git(repository, "add", "file")
    git(repository, "commit", "--quiet", "-m", "ours")
    git(repository, "switch", "--quiet", "main")
    (repository / "file").write_text("theirs")
    git(repository, "add", "file")
    git(repository, "commit", "--quiet", "-m", "theirs")
    git(repository, "switch", "--quiet", "work")
    assert git(repository, "rebase", "main", check=False).returncode != 0
    assert on(repository) == "work"
    git(repository, "rebase", "--abort")
    git(repository, "bisect", "start", "HEAD", "HEAD~2")
    assert on(repository) == "work"


def test_a_detached_checkout_is_on_no_branch_unless_a_ci_system_says(repository: Path) -> None:
    git(repository, "switch", "--quiet", "--detach")
    with pytest.raises(NotResolved, match="no current branch"):
        on(repository)
    assert on(repository, GITHUB_REF_NAME="topic", GITHUB_REF_TYPE="branch") == "topic"
    assert on(repository, GITHUB_REF_NAME="12/merge", GITHUB_HEAD_REF="topic") == "topic"
    assert on(repository, CI_COMMIT_BRANCH="topic", CI_COMMIT_REF_NAME="topic") == "topic"
    assert on(repository, BRANCH_NAME="PR-12", CHANGE_BRANCH="topic", CHANGE_ID="12") == "topic"
    with pytest.raises(NotResolved, match="disagree"):
        on(repository, CIRCLE_BRANCH="one", BUILDKITE_BRANCH="two")
    with pytest.raises(NotResolved, match="tag"):
        on(repository, GITHUB_REF_NAME="v1", GITHUB_REF_TYPE="tag")
