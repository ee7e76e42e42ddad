"""How a branch is known again whatever it is called by now: a hard link to its reflog, its anchor.

Facts (git 2.39 and 2.47, files backend; each is tested): ``git branch -m`` moves the reflog's file, so the anchor is still
the same file as the log of the branch under its new name. ``git branch -c`` copies it, a branch that is deleted and made
again begins a new one, and ``git reflog expire``, which ``git gc`` runs, replaces each with a new one: then the anchor is
another file, and holds what the log held until that moment. While there is an anchor, no other file gets its inode.

A lineage is what the registry keeps of this: the anchor's name and, after a dot, a digest of what the log held when the
anchor was made. No name: there could be no anchor (no hard links, reftable), and the log's text is all there is. An
empty lineage: the branch has no log, and its name is all there is. Light: `provisioner exec` checks a lineage on every start.
"""

from __future__ import annotations

import os

from provisioner.git.worktree import HEADS, LOGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provisioner.core.ids import AppId

ANCHORS = b"provisioner/branches/"


def anchors_directory(common_dir: bytes, app_id: AppId) -> bytes:
    """The directory of an app's anchors: two homes that register one repository do not conflict."""
    return os.path.join(common_dir, ANCHORS + app_id.encode())


def anchor_name(lineage: str) -> str:
    """The name of the anchor's file; empty if there is none."""
    return lineage.partition(".")[0]


def unchanged(common_dir: bytes, app_id: AppId, branch: bytes, lineage: str) -> bool:
    """Is the branch of this name the one with this lineage, beyond doubt? False: a look at the reflogs has to tell."""
    log = os.path.join(common_dir, LOGS, HEADS + branch)
    name = anchor_name(lineage)
    if name:
        try:
            return os.path.samestat(
                os.stat(log), os.stat(os.path.join(anchors_directory(common_dir, app_id), os.fsencode(name)))
            )
        except OSError:
            return False
    if not lineage:
        return not os.path.exists(log)
    return _continued(common_dir, branch, lineage)


def _continued(common_dir: bytes, branch: bytes, lineage: str) -> bool:
    from provisioner.git.reflog import goes_on_from, read_log

    return goes_on_from(read_log(common_dir, branch), lineage.partition(".")[2], branch, branch) >= 0
