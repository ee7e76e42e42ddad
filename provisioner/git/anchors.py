"""Making anchors, and finding the branches that they are the logs of. What an anchor is, `provisioner.git.lineage` says."""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from provisioner.core.ids import AppId
from provisioner.git.file_times import LogEnd, log_end, ref_birth, ref_mark
from provisioner.git.lineage import anchor_name, anchors_directory
from provisioner.git.reflog import BranchLog, in_reftable, keeps_logs, parse, read_file, read_log
from provisioner.git.worktree import HEADS, LOGS
from provisioner.system.birth_time import birth_ns

NOWHERE = b""
"""Instead of a branch's name: git is renaming the branch, and has put its log aside for the moment."""

_PUT_ASIDE = b"refs/.tmp-renamed-log"
_HEAD, _NEXT_HEAD = "HEAD", "HEAD.next"
_WITNESS = (
    "WITNESS"  # an empty file, and what it was when it was made: its inode and all times but that of the last read
)
_ORIGINAL = "ORIGINAL"
_OWN = frozenset((_HEAD, _NEXT_HEAD, _WITNESS, _ORIGINAL))


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
    head = anchors.get(_HEAD)
    whole = head is not None and head == _inode(_log_of_head(common_dir)) and not _collecting(common_dir)
    names = anchors.keys() - _OWN
    places = {name: branches[anchors[name]] for name in names if anchors[name] in branches}
    return Sight(logs, frozenset(names), places, whole)


def without_logs(common_dir: bytes, app_id: AppId) -> Sight:
    """The same where logs were kept, and all of them are gone: what the anchors hold is left."""
    names = _anchors(common_dir, app_id).keys() - _OWN
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


def stays(common_dir: bytes, lineage: str, branch: bytes, end: LogEnd | None) -> bool:
    """Is the ref of a branch still the very file that it was when the anchor of this lineage was made?

    Or, by the times of an anchor whose log has ended, when that log got its last line: git writes the file of the ref first.
    """
    _, _, mark = anchor_name(lineage).partition("-")[2].partition("-")
    if mark and mark == ref_mark(common_dir, branch):
        return True
    born = None if end is None else ref_birth(common_dir, branch)
    return end is not None and born is not None and born <= end.written


def end_of(common_dir: bytes, app_id: AppId, lineage: str) -> LogEnd | None:
    """What the file of an anchor says of the log that it was; None if that is unknown, or if it is another file by now."""
    name = anchor_name(lineage)
    end = log_end(os.path.join(anchors_directory(common_dir, app_id), os.fsencode(name)))
    return end if end is not None and f"{end.created:x}" == name.partition("-")[2].partition("-")[0] else None


def is_original(common_dir: bytes, app_id: AppId) -> bool:
    """Are the anchors the files that were made here, and were they left alone? Else their times say nothing of branches.

    What copies all files, or changes the modes, times, or links of all, also does that to the witness.
    """
    directory = anchors_directory(common_dir, app_id)
    identity = _identity(os.path.join(directory, _WITNESS.encode()))
    return read_file(os.path.join(directory, _ORIGINAL.encode())) == identity != b""


def _mark_original(common_dir: bytes, app_id: AppId, known: Collection[str]) -> None:
    """Make that true, and known: these are logs of branches here, and the others may be copies."""
    directory = anchors_directory(common_dir, app_id)
    for name in _anchors(common_dir, app_id).keys() - known - {_HEAD, _NEXT_HEAD}:
        _unlink(os.path.join(directory, os.fsencode(name)))
    witness = os.path.join(directory, _WITNESS.encode())
    with suppress(OSError):
        os.makedirs(directory, exist_ok=True)
        with open(witness, "xb"):
            pass
        with open(os.path.join(directory, _ORIGINAL.encode()), "xb") as file:
            file.write(_identity(witness))


def _identity(path: bytes) -> bytes:
    """Of the file at this path; empty if it is not there, or if its file system says too little of it."""
    end, inode = log_end(path), _inode(path)
    return b"" if end is None or inode is None else f"{inode} {end.created} {end.written} {end.left}\n".encode()


def head_goes_on(common_dir: bytes, app_id: AppId) -> bool:
    """Does HEAD's log still start with all lines that its anchor holds? Then nothing has dropped the lines of all logs."""
    known = parse(read_file(_anchor_of_head(common_dir, app_id, _HEAD))).lines
    return bool(known) and parse(read_file(_log_of_head(common_dir))).lines[: len(known)] == known


def make_anchor(common_dir: bytes, app_id: AppId, branch: bytes, expected: int | None) -> str | None:
    """Give a branch an anchor. Returns its lineage: without an anchor if there can be none, empty if it has no log. The name says
    when the log was created, and which file the branch's ref is.

    None: the branch's log is no longer the file with the `expected` inode.
    """
    log = os.path.join(common_dir, LOGS, HEADS + branch)
    if in_reftable(common_dir):
        text = read_log(common_dir, branch)
        return f".{text.digest}" if text.lines else ""
    born, mark = birth_ns(log), ref_mark(common_dir, branch)
    plain = uuid.uuid4().hex if born is None else f"{uuid.uuid4().hex}-{born:x}"
    name = f"{plain}-{mark}" if born is not None and mark else plain
    directory = anchors_directory(common_dir, app_id)
    anchor = os.path.join(directory, name.encode())
    if not _link(log, anchor):
        if not os.path.exists(log):
            return "" if expected is None else None
        return f".{parse(read_file(log)).digest}"
    if (expected is not None and _inode(anchor) != expected) or birth_ns(anchor) != born:
        os.unlink(anchor)
        return None
    if name != plain and mark != ref_mark(common_dir, branch):  # git has written the ref in the meantime
        os.rename(anchor, os.path.join(directory, plain.encode()))
        name = plain
    return f"{name}.{parse(read_file(os.path.join(directory, name.encode()))).digest}"


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
    for name in _anchors(common_dir, app_id):
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
    """Is `complete_watch` due? After a `begin_watch`, and whenever the anchors may be copies."""
    begun = _inode(_anchor_of_head(common_dir, app_id, _NEXT_HEAD)) is not None
    if begun or is_original(common_dir, app_id):
        return begun
    return birth_ns(anchors_directory(common_dir, app_id)) is not None


def complete_watch(common_dir: bytes, app_id: AppId, known: Iterable[str]) -> None:
    """From now on, rely on what the last `begin_watch` made. Every branch has an anchor of its log: that of a `known` lineage.

    Other anchors may be copies, and are removed. If the file system has no birth times, no copy can be recognized, and all stay.
    """
    if not is_original(common_dir, app_id) and birth_ns(anchors_directory(common_dir, app_id)) is not None:
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
