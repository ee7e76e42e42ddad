"""Making anchors, and finding the branches that they are the logs of. What an anchor is, `provisioner.git.lineage` says."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from provisioner.core.ids import AppId
from provisioner.git.lineage import anchor_name, anchors_directory
from provisioner.git.reflog import BranchLog, in_reftable, keeps_logs, parse, read_file, read_log
from provisioner.git.worktree import HEADS, LOGS
from provisioner.system.birth_time import birth_ns

NOWHERE = b""
"""Instead of a branch's name: git is renaming the branch, and has put its log aside for the moment."""

_PUT_ASIDE = b"refs/.tmp-renamed-log"
_HEAD, _NEXT_HEAD = "HEAD", "HEAD.next"
_ORIGINAL = "ORIGINAL"  # holds its own inode and birth, which a copy of it does not have


@dataclass(frozen=True, slots=True)
class Sight:
    """The inodes of an app's anchors and of all logs of branches at one moment.

    `logs` has the inode of each branch's log, `places` by the anchor's name the branch whose log it is. `whole`: since the
    last look not all logs were rewritten, so an anchor that belongs to no log is that of a deleted branch.
    """

    logs: dict[bytes, int]
    anchors: frozenset[str]
    places: dict[str, bytes]
    whole: bool


def look(common_dir: bytes, app_id: AppId) -> Sight | None:
    """None if the repository keeps no logs. 10,000 branches take about 20 ms."""
    if not keeps_logs(common_dir):
        return None
    if in_reftable(common_dir):
        return Sight({}, frozenset(), {}, whole=False)
    anchors = _anchors(common_dir, app_id)
    logs = {branch: inode for branch, inode in _files(os.path.join(common_dir, LOGS, HEADS)) if branch[-5:] != b".lock"}
    branches = {inode: branch for branch, inode in logs.items()}
    aside = _inode(os.path.join(common_dir, LOGS, _PUT_ASIDE))
    if aside is not None:
        branches[aside] = NOWHERE
    head = anchors.pop(_HEAD, None)
    anchors.pop(_NEXT_HEAD, None)
    anchors.pop(_ORIGINAL, None)
    whole = head is not None and head == _inode(_log_of_head(common_dir)) and not _collecting(common_dir)
    places = {name: branches[inode] for name, inode in anchors.items() if inode in branches}
    return Sight(logs, frozenset(anchors), places, whole)


def without_logs(common_dir: bytes, app_id: AppId) -> Sight:
    """The same where logs were kept, and all of them are gone: what the anchors hold is left."""
    names = _anchors(common_dir, app_id).keys() - {_HEAD, _NEXT_HEAD, _ORIGINAL}
    return Sight({}, frozenset(names), {}, whole=False)


def _anchors(common_dir: bytes, app_id: AppId) -> dict[str, int]:
    try:
        with os.scandir(os.fsdecode(anchors_directory(common_dir, app_id))) as entries:
            return {entry.name: entry.inode() for entry in entries}
    except OSError:
        return {}


def _files(top: bytes) -> Iterator[tuple[bytes, int]]:
    """The files below a directory that ends in a slash, by their paths in it, with their inodes."""
    waiting = [b""]
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(top + directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(directory + entry.name + b"/")
                    else:
                        yield directory + entry.name, entry.inode()
        except (FileNotFoundError, NotADirectoryError):  # git removes directories that have become empty
            continue


def last_words(common_dir: bytes, app_id: AppId, lineage: str) -> BranchLog | None:
    """What a branch's log held until it was deleted, overwritten or rewritten; None if there is no anchor to tell."""
    name = anchor_name(lineage)
    path = os.path.join(anchors_directory(common_dir, app_id), os.fsencode(name))
    return parse(read_file(path)) if name and os.path.exists(path) else None


def left_at(common_dir: bytes, app_id: AppId, lineage: str) -> int | None:
    """When (ns) the file of an anchor was last linked or removed: for one that isn't a log, the time when it ceased to be one."""
    try:
        return os.stat(
            os.path.join(anchors_directory(common_dir, app_id), os.fsencode(anchor_name(lineage)))
        ).st_ctime_ns
    except OSError:
        return None


def log_births(common_dir: bytes, branches: Iterable[bytes]) -> dict[bytes, int]:
    """When (ns) the files that are the logs of these branches now were created; without those of which that is unknown."""
    found = ((branch, birth_ns(os.path.join(common_dir, LOGS, HEADS + branch))) for branch in branches)
    return {branch: at for branch, at in found if at is not None}


def ref_birth(common_dir: bytes, branch: bytes) -> int | None:
    """When (ns) the file that is the ref of this branch was created. None if that is unknown, or the branch has no such file."""
    path = os.path.join(common_dir, HEADS + branch)
    alias = os.path.islink(path) or read_file(path).startswith(b"ref:")
    return None if alias else birth_ns(path)


def is_original(common_dir: bytes, app_id: AppId) -> bool:
    """Are the anchors the files that were made here? The times of copied files say nothing of branches."""
    path = _original(common_dir, app_id)
    return read_file(path) == _identity(path) != b""


def _mark_original(common_dir: bytes, app_id: AppId, known: Collection[str]) -> None:
    """Make that true, and known: these are logs of branches here, and the others may be copies."""
    directory, path = anchors_directory(common_dir, app_id), _original(common_dir, app_id)
    for name in _anchors(common_dir, app_id).keys() - known - {_HEAD, _NEXT_HEAD}:
        _unlink(os.path.join(directory, os.fsencode(name)))
    with suppress(OSError):
        os.makedirs(directory, exist_ok=True)
        with open(path, "xb") as file:
            file.write(_identity(path))


def _original(common_dir: bytes, app_id: AppId) -> bytes:
    return os.path.join(anchors_directory(common_dir, app_id), _ORIGINAL.encode())


def _identity(path: bytes) -> bytes:
    """Of the file at this path; empty if it is not there, or if its file system says too little of it."""
    inode, born = _inode(path), birth_ns(path)
    return b"" if inode is None or born is None else f"{inode} {born}\n".encode()


def head_goes_on(common_dir: bytes, app_id: AppId) -> bool:
    """Does HEAD's log still start with all lines that its anchor holds? Then nothing has dropped the lines of all logs."""
    known = parse(read_file(_anchor_of_head(common_dir, app_id, _HEAD))).lines
    return bool(known) and parse(read_file(_log_of_head(common_dir))).lines[: len(known)] == known


def make_anchor(common_dir: bytes, app_id: AppId, branch: bytes, expected: int | None) -> str | None:
    """Give a branch an anchor. Returns its lineage: without an anchor if there can be none, empty if it has no log.

    None: the branch's log is no longer the file with the `expected` inode.
    """
    log = os.path.join(common_dir, LOGS, HEADS + branch)
    if in_reftable(common_dir):
        text = read_log(common_dir, branch)
        return f".{text.digest}" if text.lines else ""
    name = uuid.uuid4().hex
    anchor = os.path.join(anchors_directory(common_dir, app_id), name.encode())
    if not _link(log, anchor):
        if not os.path.exists(log):
            return "" if expected is None else None
        return f".{parse(read_file(log)).digest}"
    if expected is not None and _inode(anchor) != expected:
        os.unlink(anchor)
        return None
    return f"{name}.{parse(read_file(anchor)).digest}"


def _link(path: bytes, link: bytes) -> bool:
    """False if there can be none: the file is gone, the file system has no hard links, or the system refuses."""
    try:
        if not os.path.isdir(os.path.dirname(link)):
            os.makedirs(os.path.dirname(link))
        os.link(path, link, follow_symlinks=False)
    except OSError:
        return False
    return True


def drop_anchors(common_dir: bytes, app_id: AppId, lineages: Iterable[str]) -> None:
    """Remove the anchors of these lineages. The caller holds the app's lock."""
    directory = anchors_directory(common_dir, app_id)
    for name in {anchor_name(lineage) for lineage in lineages} - {""}:
        _unlink(os.path.join(directory, os.fsencode(name)))


def remove_anchors(common_dir: bytes, app_id: AppId) -> None:
    """Leave nothing of an app's anchors in the repository. Raises OSError."""
    directory = anchors_directory(common_dir, app_id)
    for name in (_HEAD, _NEXT_HEAD, _ORIGINAL, *_anchors(common_dir, app_id)):
        _unlink(os.path.join(directory, os.fsencode(name)))
    while directory != common_dir and os.path.isdir(directory) and not os.listdir(directory):
        os.rmdir(directory)
        directory = os.path.dirname(directory.rstrip(b"/"))


def begin_watch(common_dir: bytes, app_id: AppId) -> None:
    """Make what shows whether all logs are rewritten from now on: an anchor of HEAD's log. See `complete_watch`."""
    head = _inode(_log_of_head(common_dir))
    if head is None or head == _inode(_anchor_of_head(common_dir, app_id, _HEAD)):
        return
    following = _anchor_of_head(common_dir, app_id, _NEXT_HEAD)
    if head != _inode(following):
        _unlink(following)
        _link(_log_of_head(common_dir), following)


def to_complete(common_dir: bytes, app_id: AppId) -> bool:
    """Is there a `begin_watch` that was not completed, or are the anchors not known to be no copies?"""
    begun = _inode(_anchor_of_head(common_dir, app_id, _NEXT_HEAD)) is not None
    if begun or is_original(common_dir, app_id):
        return begun
    return birth_ns(anchors_directory(common_dir, app_id)) is not None


def complete_watch(common_dir: bytes, app_id: AppId, known: Iterable[str]) -> None:
    """Rely on the last `begin_watch`: every branch has got an anchor of its log since. Those are the `known` lineages'."""
    if not is_original(common_dir, app_id):
        _mark_original(common_dir, app_id, {anchor_name(lineage) for lineage in known})
    with suppress(FileNotFoundError):
        os.replace(_anchor_of_head(common_dir, app_id, _NEXT_HEAD), _anchor_of_head(common_dir, app_id, _HEAD))


def _anchor_of_head(common_dir: bytes, app_id: AppId, name: str) -> bytes:
    return os.path.join(anchors_directory(common_dir, app_id), name.encode())


def _log_of_head(common_dir: bytes) -> bytes:
    return os.path.join(common_dir, LOGS, b"HEAD")


def _collecting(common_dir: bytes) -> bool:
    """Does ``git gc`` run, which rewrites one log after the other?"""
    return os.path.exists(os.path.join(common_dir, b"gc.pid"))


def _inode(path: bytes) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _unlink(path: bytes) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
