"""Which repository a directory belongs to and which branch it is on, read from git's files.

No git process and no library: `provisioner exec` and the hooks use this on every start. If the branch is unclear, the result
is an error, never a guess. Sources: gitrepository-layout(5), git-worktree(1).
"""

from __future__ import annotations

import os

from provisioner.core.errors import NotResolved

HEADS = b"refs/heads/"
LOGS = b"logs/"  # of refs, each at its path

# Variables in which CI systems name the branch of a detached checkout, and those that say it is a merge request's.
CI_BRANCH = (
    "GITHUB_HEAD_REF",
    "GITHUB_REF_NAME",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME",
    "CI_COMMIT_BRANCH",
    "CI_COMMIT_REF_NAME",
    "BUILDKITE_BRANCH",
    "CIRCLE_BRANCH",
    "CHANGE_BRANCH",
    "BRANCH_NAME",
)
CI_TAG = ("CI_COMMIT_TAG", "BUILDKITE_TAG", "CIRCLE_TAG", "TAG_NAME")
CI_MERGE_REQUEST = (
    "GITHUB_HEAD_REF",
    "CI_MERGE_REQUEST_IID",
    "BUILDKITE_PULL_REQUEST",
    "CIRCLE_PULL_REQUEST",
    "CHANGE_ID",
)


class Checkout:
    """A directory under git: its own git directory, the common one, the top of its files (None in a bare one)."""

    __slots__ = ("common_dir", "git_dir", "top")

    def __init__(self, git_dir: bytes, common_dir: bytes, top: bytes | None) -> None:
        self.git_dir = git_dir
        self.common_dir = common_dir
        self.top = top


class Branch:
    """The branch a checkout is on. `merge_request` is true where only a CI system's word for a merge request says so."""

    __slots__ = ("merge_request", "name", "unborn")

    def __init__(self, name: bytes, *, unborn: bool = False, merge_request: bool = False) -> None:
        self.name = name
        self.unborn = unborn
        self.merge_request = merge_request


def find_checkout(start: bytes) -> Checkout | None:
    """The checkout, linked worktree, submodule, or bare repository that contains `start`; None outside of any."""
    directory = os.path.realpath(start)
    while True:
        dot_git = os.path.join(directory, b".git")
        if os.path.isdir(dot_git) and _is_git_dir(dot_git):
            return Checkout(dot_git, common_dir_of(dot_git), directory)
        if os.path.isfile(dot_git):
            git_dir = _read(dot_git).removeprefix(b"gitdir: ")
            git_dir = os.path.realpath(os.path.join(directory, git_dir))
            if not _is_git_dir(git_dir):
                raise NotResolved(
                    f"{os.fsdecode(dot_git)} points to {os.fsdecode(git_dir)}, which is not a git directory",
                    "Repair the checkout: git worktree repair, or git submodule update",
                )
            return Checkout(git_dir, common_dir_of(git_dir), directory)
        if _is_git_dir(directory):
            return Checkout(directory, common_dir_of(directory), None)
        parent = os.path.dirname(directory)
        if parent == directory:
            return None
        directory = parent


def worktree_tops(common_dir: bytes) -> list[bytes]:
    """The tops of the checkouts of a repository that exist: the main one's, if it has files, and the linked ones'."""
    tops = []
    if os.path.basename(common_dir) == b".git":
        tops.append(os.path.dirname(common_dir))
    elif work_tree := _config_value(common_dir, b"[core]", b"worktree="):  # a submodule's
        tops.append(os.path.realpath(os.path.join(common_dir, work_tree)))
    linked = os.path.join(common_dir, b"worktrees")
    for name in sorted(os.listdir(linked)) if os.path.isdir(linked) else ():
        pointer = os.path.join(linked, name, b"gitdir")
        if os.path.isfile(pointer):
            tops.append(os.path.dirname(os.path.join(linked, name, _read(pointer))))
    return [top for top in tops if os.path.exists(os.path.join(top, b".git"))]


def common_dir_of(git_dir: bytes) -> bytes:
    """The directory that holds the refs: for a linked worktree the main repository's, else `git_dir` itself."""
    pointer = os.path.join(git_dir, b"commondir")
    if os.path.isfile(pointer):
        return os.path.realpath(os.path.join(git_dir, _read(pointer)))
    return os.path.realpath(git_dir)


def current_branch(checkout: Checkout, environ: dict[str, str] | os._Environ[str]) -> Branch:
    """The branch that `checkout` is on: HEAD, else what a rebase or bisect goes back to, else a CI system's word.

    Raises `NotResolved` if no source names a branch, or if they disagree.
    """
    head = _read(os.path.join(checkout.git_dir, b"HEAD"))
    if head.startswith(b"ref: "):
        ref = head.removeprefix(b"ref: ").strip()
        if ref == HEADS + b".invalid":  # what a reftable repository has in HEAD for those who cannot read it
            return _branch_by_git(checkout)
        if not ref.startswith(HEADS):
            raise NotResolved(f"HEAD names {os.fsdecode(ref)}, which is not a branch", "Add --branch NAME")
        return Branch(ref.removeprefix(HEADS), unborn=not _exists(checkout.common_dir, ref))
    for name in (b"rebase-merge/head-name", b"rebase-apply/head-name", b"BISECT_START"):
        path = os.path.join(checkout.git_dir, name)
        if os.path.isfile(path):
            value = _read(path)
            if value.startswith(HEADS):
                return Branch(value.removeprefix(HEADS))
            if name == b"BISECT_START" and _exists(checkout.common_dir, HEADS + value):
                return Branch(value)
    return _branch_by_ci(environ)


def _branch_by_ci(environ: dict[str, str] | os._Environ[str]) -> Branch:
    if any(environ.get(name) for name in CI_TAG) or environ.get("GITHUB_REF_TYPE") == "tag":
        raise NotResolved("this is the checkout of a tag, which has no timeline", "Add --branch NAME")
    merge_request = any(environ.get(name, "false") not in ("", "false") for name in CI_MERGE_REQUEST)
    said: dict[str, str] = {}
    for name in CI_BRANCH:
        value = environ.get(name)
        if not value:
            continue
        if name == "GITHUB_REF_NAME" and environ.get("GITHUB_HEAD_REF"):
            continue  # "12/merge" there
        if name == "BRANCH_NAME" and environ.get("CHANGE_BRANCH"):
            continue  # "PR-12" there
        said[name] = value
    if len(set(said.values())) == 1:
        return Branch(os.fsencode(next(iter(said.values()))), merge_request=merge_request)
    if said:
        claims = ", ".join(f"{name}={value}" for name, value in said.items())
        raise NotResolved(f"HEAD is detached and the CI variables disagree ({claims})", "Add --branch NAME")
    raise NotResolved(
        "HEAD is detached, so there is no current branch", "Add --branch NAME, or 'git switch' to a branch"
    )


def _branch_by_git(checkout: Checkout) -> Branch:
    from provisioner.git.command import git

    name = git(checkout.git_dir, "symbolic-ref", "--quiet", "HEAD").removesuffix(b"\n")
    if not name.startswith(HEADS):
        raise NotResolved("HEAD is detached, so there is no current branch", "Add --branch NAME")
    listed = git(checkout.git_dir, "for-each-ref", "--format=%(refname)", name)
    return Branch(name.removeprefix(HEADS), unborn=name not in listed.split(b"\n"))


def origin_directory(common_dir: bytes) -> bytes | None:
    """The common directory of ``remote.origin`` where it is a repository on this machine, else None."""
    url = _config_value(common_dir, b'[remote "origin"]', b"url=").removeprefix(b"file://")
    if not url.startswith(b"/") and not url.startswith(b"."):
        return None
    base = os.path.dirname(common_dir) if os.path.basename(common_dir) == b".git" else common_dir
    for candidate in (url, url + b".git", url + b"/.git"):
        directory = os.path.realpath(os.path.join(base, candidate))
        if _is_git_dir(directory):
            return common_dir_of(directory)
    return None


def _config_value(common_dir: bytes, section: bytes, key: bytes) -> bytes:
    """The last plain value of a key (``key=``) of the repository's own configuration; empty if there is none."""
    path = os.path.join(common_dir, b"config")
    if not os.path.isfile(path):
        return b""
    current = value = b""
    for line in _read(path).split(b"\n"):
        words = line.strip()
        if words.startswith(b"["):
            current = words
        elif current == section and words.replace(b" ", b"").startswith(key):
            value = words.split(b"=", 1)[1].strip()
    return value


def _is_git_dir(path: bytes) -> bool:
    """Git's own test: a HEAD, and refs and objects here or in the common directory."""
    if not os.path.lexists(os.path.join(path, b"HEAD")):
        return False
    if os.path.isfile(os.path.join(path, b"commondir")):
        return True
    return os.path.isdir(os.path.join(path, b"objects")) and os.path.isdir(os.path.join(path, b"refs"))


def _exists(common_dir: bytes, ref: bytes) -> bool:
    """Is there such a ref? For telling an unborn branch, so the reading order of git: loose, then packed."""
    if os.path.isfile(os.path.join(common_dir, ref)):
        return True
    packed = os.path.join(common_dir, b"packed-refs")
    if not os.path.isfile(packed):
        return False
    return b" " + ref + b"\n" in _read(packed) + b"\n"


def _read(path: bytes) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read().removesuffix(b"\n")
    except OSError as error:
        raise NotResolved(f"cannot read {os.fsdecode(path)}: {error.strerror}", "Check who owns it") from error
