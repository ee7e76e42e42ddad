"""Every branch of a repository, as the refs have it now. pygit2 is used here and nowhere else."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterable

from provisioner.core.errors import UnreadableRepository
from provisioner.git.command import git
from provisioner.git.reflog import in_reftable
from provisioner.git.worktree import HEADS, common_dir_of

USUAL = (b"main", b"master", b"trunk")
_REMOTES = b"refs/remotes/"
_LONGEST = 4096  # bytes of a name of a commit: no file system has longer ones
_COMMIT = re.compile(rb"(?!0+$)[0-9a-f]{40}(?:[0-9a-f]{24})?")
_ILLEGAL = re.compile(rb"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|(?:^|/)(?:\.|/|$)|\.lock(?:/|$)|\.$")
"""What git allows in no name of a branch (git-check-ref-format)."""


def read_branches(common_dir: bytes) -> dict[bytes, str]:
    """Branch names (raw, without ``refs/heads/``) with the commit each points to, as hex.

    Loose, packed and symbolic refs through libgit2; a repository it cannot read (SHA-256, reftable) through
    ``git for-each-ref``. Raises `UnreadableRepository`: a repository that cannot be read is not one without branches.
    """
    _must_exist(common_dir)
    import pygit2

    try:
        repository = pygit2.Repository(os.fsdecode(common_dir))
        found = {}
        for reference in repository.references.iterator(pygit2.enums.ReferenceFilter.BRANCHES):
            target = reference.raw_target
            revision = str(target) if isinstance(target, pygit2.Oid) else _resolved(reference)
            found[reference.raw_name.removeprefix(HEADS)] = revision
    except (pygit2.GitError, ValueError, KeyError, OSError):
        return _read_by_git(common_dir)
    return found


def still_there(common_dir: bytes, branches: Iterable[bytes]) -> bool:
    """Is any of these branches there after all? Asked of each by name, loose first and then packed.

    A listing that runs beside ``git pack-refs`` can miss a branch: it may read the old packed-refs and then no longer
    find the loose file. A look-up by name cannot, because git writes packed-refs before it removes the loose file.
    """
    names = list(branches)
    if not names:
        return False
    _must_exist(common_dir)
    for name in names:
        if os.path.lexists(os.path.join(common_dir, HEADS + name)) and not os.path.isdir(
            os.path.join(common_dir, HEADS + name)
        ):
            return True
    if in_reftable(common_dir):
        return not _read_by_git(common_dir).keys().isdisjoint(names)
    packed = _packed(common_dir)
    return any(name in packed for name in names)


def read_named(common_dir: bytes, branches: Collection[bytes]) -> dict[bytes, str] | None:
    """Those of the `branches` that are there, with the commit each points to, looked up by name: loose first and then packed.

    The cost does not depend on how many other branches there are, but for the size of the file packed-refs. None if the files
    do not tell: a symbolic or broken ref, a reftable, a disk on which two names may be one file, or a name that no branch can
    have. Then `read_branches` does. Raises `UnreadableRepository`.
    """
    _must_exist(common_dir)
    if in_reftable(common_dir) or not _names_are_exact(common_dir, branches):
        return None
    packed: bytes | None = None
    found = {}
    for name in branches:
        revision = _loose_at(os.path.join(common_dir, HEADS + name))
        if revision is None:
            packed = _packed_refs(common_dir) if packed is None else packed
            revision = _packed_at(packed, name)
        if revision is not None and not _COMMIT.fullmatch(revision):
            return None
        if revision is not None:
            found[name] = revision.decode("ascii")
    return found


def _loose_at(path: bytes) -> bytes | None:
    """What the file of a ref holds; None if there is no such file."""
    try:
        if os.path.islink(path):  # an old form of a symbolic ref
            return b""
        with open(path, "rb", buffering=0) as file:
            return file.read(_LONGEST).strip()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    except OSError:
        return b""


def _packed_at(packed: bytes, name: bytes) -> bytes | None:
    """The commit that a branch has in the text of packed-refs; None if it is not there."""
    end = packed.find(b" " + HEADS + name + b"\n")
    return packed[packed.rfind(b"\n", 0, end) + 1 : end] if end >= 0 else None


def _names_are_exact(common_dir: bytes, branches: Collection[bytes]) -> bool:
    """Is each a name that a branch can have, and a file found under its very name alone, in its case and normalization?"""
    if any(_ILLEGAL.search(name) or name.startswith(b"-") for name in branches):
        return False
    if os.path.lexists(os.path.join(common_dir, b"hEAD")):
        return False
    return sys.platform != "darwin" or all(name.isascii() for name in branches)


def _packed(common_dir: bytes) -> set[bytes]:
    lines = _packed_refs(common_dir).split(b"\n")
    marker = b" " + HEADS
    return {line.split(marker, 1)[1] for line in lines if marker in line and not line.startswith((b"#", b"^"))}


def _packed_refs(common_dir: bytes) -> bytes:
    path = os.path.join(common_dir, b"packed-refs")
    try:
        with open(path, "rb", buffering=0) as file:
            return file.readall()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UnreadableRepository(f"cannot read {os.fsdecode(path)}: {error.strerror}", "Check who owns it") from error


def _resolved(reference: object) -> str:
    """The commit behind a symbolic ref; empty where it points nowhere. The branch exists all the same."""
    try:
        return str(reference.resolve().target)  # type: ignore[attr-defined]
    except KeyError:
        return ""


def _read_by_git(common_dir: bytes) -> dict[bytes, str]:
    listing = git(common_dir, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/")
    found = {}
    for line in listing.split(b"\n"):
        if line:
            revision, _, name = line.partition(b" ")
            found[name.removeprefix(HEADS)] = revision.decode("ascii")
    return found


def _must_exist(common_dir: bytes) -> None:
    """An unmounted disk or a moved repository must not look like one whose branches were all deleted."""
    for part in (b"HEAD", b"refs"):
        path = os.path.join(common_dir, part)
        if not os.path.lexists(path) or (part == b"refs" and not os.access(path, os.R_OK | os.X_OK)):
            raise UnreadableRepository(
                f"there is no readable git repository in {os.fsdecode(common_dir)}",
                "If it has moved, run 'provisioner app set APP --repository NEW-PATH';"
                " if it is gone, 'provisioner app remove APP'",
            )


def default_branch(common_dir: bytes, branches: Collection[bytes]) -> bytes | None:
    """Which of the repository's `branches` is deployed to production unless a person says otherwise; None if it is unclear.

    The remote's default branch, also if there is no local branch of that name; of a bare repository the branch that HEAD
    names; else the only one of main, master and trunk. A repository without branches has the one that HEAD names.
    """
    remote = _remote_default(common_dir)
    if remote is not None:
        return remote
    if not branches or is_bare(common_dir):
        head = _head_branch(common_dir)
        if not branches or head in branches:
            return head
    usual = [name for name in USUAL if name in branches]
    return usual[0] if len(usual) == 1 else None


def tracked_branches(common_dir: bytes) -> set[bytes]:
    """The branches that the remote had when it was last fetched from."""
    remote = _remote(common_dir)
    listing = git(common_dir, "for-each-ref", "--format=%(refname)", _REMOTES + remote + b"/") if remote else b""
    prefix = _REMOTES + remote + b"/"
    return {line.removeprefix(prefix) for line in listing.split(b"\n") if line} - {b"HEAD"}


def _remote_default(common_dir: bytes) -> bytes | None:
    """None if there is no remote, if its default branch is not known, or if the remote no longer has it."""
    remote = _remote(common_dir)
    if not remote:
        return None
    head = _REMOTES + remote + b"/HEAD"  # not listed if what it names is gone
    target = git(common_dir, "for-each-ref", "--format=%(symref)", head).strip()
    return target.removeprefix(_REMOTES + remote + b"/") or None


def _remote(common_dir: bytes) -> bytes:
    """The remote that the repository belongs to: origin, or the only one; empty if there is none."""
    names = [line for line in git(common_dir, "remote").split(b"\n") if line]
    if b"origin" in names:
        return b"origin"
    return names[0] if len(names) == 1 else b""


def _head_branch(common_dir: bytes) -> bytes | None:
    try:
        return git(common_dir, "symbolic-ref", "HEAD").strip().removeprefix(HEADS)
    except UnreadableRepository:  # a commit is checked out
        return None


def commit_of(git_dir: bytes, name: str) -> str | None:
    """The id of the commit that `name` (an id, the beginning of one, a branch, a tag) means; None where it means none.

    HEAD is that of the checkout whose `git_dir` it is, which may be a linked worktree.
    """
    _must_exist(common_dir_of(git_dir))
    if len(name) > _LONGEST or "\0" in name:
        return None
    try:
        found = git(git_dir, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except UnreadableRepository:
        return None
    return found.decode("ascii").strip()


def is_bare(common_dir: bytes) -> bool:
    return git(common_dir, "config", "--type=bool", "--default=false", "core.bare").strip() == b"true"


def is_mirror(common_dir: bytes) -> bool:
    """Does a remote overwrite this repository's branches when it is fetched from?"""
    try:
        return b"true" in git(common_dir, "config", "--type=bool", "--get-regexp", r"^remote\..*\.mirror$")
    except UnreadableRepository:  # git's way of saying that there is no such setting
        return False
