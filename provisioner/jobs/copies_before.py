"""Snapshots taken before a pre-deploy command, to restore if it does harm.

On disks that cannot share blocks, each takes as much space as the database. So by default one is taken only if the
command differs from the one that last succeeded, or has other inputs: the files and directories of the revision in its
words, and those in the app's settings.
"""

from __future__ import annotations

import json
import os
import shlex
from hashlib import sha256

from provisioner.core.clock import now_ms
from provisioner.core.model import App, Copies, Timeline
from provisioner.git.revision_paths import contents
from provisioner.reconcile.changes.run_records import PRE_DEPLOY
from provisioner.reconcile.changes.snapshots import keep_newest, take_snapshots
from provisioner.registry import queries
from provisioner.registry.store import Registry

MOST = 5
"""The data from before this many runs is kept."""

_MOST_WORDS = 100


def identity(app: App, revision: str) -> str:
    """A value that identifies the command at a revision, with its inputs. Raises `UnreadableRepository`."""
    words = [_inside(word) for word in _words(app.pre_deploy)[:_MOST_WORDS]]
    inputs = contents(app.git_dir, revision, [app.pre_deploy_from, *app.pre_deploy_inputs, *filter(None, words)])
    document = (app.pre_deploy, app.pre_deploy_from, sorted(inputs.items()))
    return sha256(json.dumps(document).encode()).hexdigest()


def copy_before(registry: Registry, app: App, timeline: Timeline, command: str) -> None:
    """Take snapshots of a timeline before this command, if its app wants that. Raises StorageFailed and Busy.

    The oldest one is deleted first.
    """
    match app.pre_deploy_copies:
        case Copies.NEVER:
            return
        case Copies.CHANGED if timeline.deployed_by == command:
            return
        case Copies.CHANGED | Copies.ALWAYS:
            live = [item for item in queries.databases_of(registry, timeline) if item.live]
            for database in live:
                keep_newest(registry, database, PRE_DEPLOY, MOST - 1, now_ms())
            take_snapshots(registry, live, now_ms(), label="", cause=PRE_DEPLOY)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _inside(word: str) -> str:
    """The word as a path of the repository; empty if it is not one."""
    if not word or word.startswith(("-", "/")):
        return ""
    path = os.path.normpath(word)
    return "" if path.startswith("..") or path == "." else path
