"""Hooks that git no longer runs: husky and others point ``core.hooksPath`` to a directory that they rewrite."""

from __future__ import annotations

import os

from provisioner.core.errors import ProvisionerError
from provisioner.core.ids import AppId
from provisioner.git import hooks
from provisioner.git.repository_id import hooks_app
from provisioner.git.tracking import would_ignore
from provisioner.git.worktree import Checkout


def put_back(checkout: Checkout, home: str) -> str:
    """Install the repository's hooks again if they were installed and are missing where git looks for them now.

    Never among files that git tracks. Returns what to tell the user; empty if nothing is missing.
    """
    app_id = AppId(hooks_app(checkout.common_dir))
    if not app_id:
        return ""
    missing = [hook for hook in hooks.status(checkout.common_dir, checkout.top, home) if hook.state in _GONE]
    if not missing:
        return ""
    directory = hooks.hooks_directory(checkout.common_dir, checkout.top)
    where = os.fsdecode(directory)
    if _is_private(checkout, directory):
        try:
            hooks.install(checkout.common_dir, checkout.top, app_id, home)
        except ProvisionerError as error:
            return f"git does not run provisioner's hooks: {error}"
        return f"provisioner's hooks are back in {where}, where git looks for them now"
    return f"git does not run provisioner's hooks: it looks for them in {where}. Run: provisioner hooks install"


_GONE = (hooks.HookState.MISSING, hooks.HookState.FOREIGN)


def _is_private(checkout: Checkout, directory: bytes) -> bool:
    """Does git keep what is in this directory out of commits?"""
    if directory.startswith(checkout.common_dir + b"/"):
        return True
    if checkout.top is None or not directory.startswith(checkout.top + b"/"):
        return False  # a directory that other repositories share
    return would_ignore(checkout, os.path.relpath(os.path.join(directory, b"post-checkout"), checkout.top))
