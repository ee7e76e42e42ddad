"""Files and directories of a revision, each by the id of its content."""

from __future__ import annotations

import os
from collections.abc import Collection

from provisioner.git.command import git


def contents(git_dir: bytes, revision: str, paths: Collection[str]) -> dict[str, str]:
    """The ids of what is at these paths, from the top of the repository; of those that are there.

    Raises `UnreadableRepository`.
    """
    wanted = [path for path in dict.fromkeys(paths) if path and "\n" not in path]
    if not wanted:
        return {}
    asked = "".join(f"{revision}:{path}\n" for path in wanted)
    answers = git(git_dir, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=os.fsencode(asked))
    found = {}
    for path, line in zip(wanted, answers.decode("utf-8", "surrogateescape").splitlines(), strict=False):
        name, _, kind = line.rpartition(" ")
        if kind in ("blob", "tree"):
            found[path] = name
    return found
