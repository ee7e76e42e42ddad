"""Which branch is production: found in the repository, or named by a person and checked."""

from __future__ import annotations

import os
from collections.abc import Collection
from difflib import get_close_matches

from provisioner.core.errors import UsageError
from provisioner.core.naming import shown
from provisioner.git.refs import default_branch, read_branches, tracked_branches

_MOST_LISTED = 8


class UnclearProductionBranch(UsageError):  # noqa: N818
    """The repository does not show which branch is production. `choices` names the branches that there are."""

    def __init__(self, common_dir: bytes, branches: Collection[bytes]) -> None:
        self.choices = _choices(branches)
        super().__init__(
            f"the repository {os.fsdecode(common_dir)} does not show which branch is production",
            f"Add --production-branch BRANCH. {self.choices}",
        )


def found(common_dir: bytes) -> bytes:
    """The production branch by the repository's own word. Raises `UnclearProductionBranch`."""
    branches = read_branches(common_dir)
    branch = default_branch(common_dir, branches)
    if branch is None:
        raise UnclearProductionBranch(common_dir, branches)
    return branch


def must_exist(common_dir: bytes, branch: bytes) -> None:
    """Raises `UsageError` if the repository has branches and this is none of them: most likely it is a typo."""
    branches = read_branches(common_dir).keys()
    if not branches or branch in branches:
        return
    tracked = tracked_branches(common_dir)
    if branch in tracked:
        return
    alike = get_close_matches(_text(branch), [_text(name) for name in branches | tracked], n=3)
    hint = f"Did you mean {' or '.join(alike)}?" if alike else _choices(branches)
    raise UsageError(f"there is no branch {_text(branch)!r} in {os.fsdecode(common_dir)}", hint)


def _choices(branches: Collection[bytes]) -> str:
    names = sorted(_text(branch) for branch in branches)
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"Choose one of: {', '.join(names[:_MOST_LISTED])}{more}"


def _text(branch: bytes) -> str:
    return shown(branch)
