"""Copies of the data from before a pre-deploy command, to go back to if it does harm.

On disks that cannot share blocks each copy takes as much as the database. So by default one is made only before a command
that is another than the one that succeeded last, or has other inputs: the files and directories of the revision that its
words name, and those that its app says.
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
"""Of so many runs the data before them is kept."""

_MOST_WORDS = 100


def identity(app: App, revision: str) -> str:
    """What tells the command at a revision, with its inputs, from any other. Raises `UnreadableRepository`."""
    words = [_inside(word) for word in _words(app.pre_deploy)[:_MOST_WORDS]]
    inputs = contents(app.git_dir, revision, [app.pre_deploy_from, *app.pre_deploy_inputs, *filter(None, words)])
    document = (app.pre_deploy, app.pre_deploy_from, sorted(inputs.items()))
    return sha256(json.dumps(document).encode()).hexdigest()


def copy_before(registry: Registry, app: App, timeline: Timeline, command: str) -> None:
    """Copy the data of a timeline before this command, if its app wants that. Raises StorageFailed and Busy.

    The oldest copy makes room first.
    """
    match app.pre_deploy_copies:
        case Copies.NEVER:
            return
        case Copies.CHANGED if timeline.deployed_by == command:
            return
        case Copies.CHANGED | Copies.ALWAYS:
            live = [item for item in queries.databases_of(registry, timeline) if item.live]
            for database in live:
                keep_newest(registry, app, database, PRE_DEPLOY, MOST - 1, now_ms())
            take_snapshots(registry, app, live, now_ms(), label="", cause=PRE_DEPLOY)


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _inside(word: str) -> str:
    """The word as a path of the repository; empty if it is none."""
    if not word or word.startswith(("-", "/")):
        return ""
    path = os.path.normpath(word)
    return "" if path.startswith("..") or path == "." else path
