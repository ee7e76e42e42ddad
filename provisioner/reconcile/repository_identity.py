"""Is the repository at an app's path the one that the app was registered with? A path alone does not say so."""

from __future__ import annotations

import os
from contextlib import suppress

from provisioner.core.errors import UnreadableRepository, WrongRepository
from provisioner.core.model import App
from provisioner.git.command import git
from provisioner.git.repository_id import app_ids, claim
from provisioner.registry.store import Registry

_MOST_REVISIONS = 1000


def must_be_its_own(registry: Registry, app: App) -> None:
    """Raises `WrongRepository` if the repository at the app's path is another one. Nothing is said of one that is away.

    The id in the repository decides. If there is none, it was cloned again, or registered before there were ids: its history
    decides, and it gets the id.
    """
    if app.id in app_ids(app.git_dir) or _away(app):
        return
    if problem := wrong(registry, app):
        raise problem
    with suppress(OSError):  # without it, the repository is recognized by its history each time
        claim(app.git_dir, app.id)


def wrong(registry: Registry, app: App) -> WrongRepository | None:
    """What is the matter with the repository at the app's path; changes nothing."""
    ids = app_ids(app.git_dir)
    if app.id in ids or _away(app) or (not ids and knows_history(registry, app, app.git_dir)):
        return None
    place = os.fsdecode(app.git_dir)
    others = [other.slug for other in registry.apps() if other.id in ids]
    if others:
        what = f"the repository in {place} is that of app {others[0]!r}, not of {app.slug!r}"
    elif ids:
        what = f"the repository in {place} is registered as another app, not as {app.slug!r}"
    else:
        what = f"the repository in {place} has none of the history of app {app.slug!r}, which was registered there"
    return WrongRepository(
        what,
        f"If the app's repository has moved, run: provisioner app set {app.slug} --repository PATH."
        f" If the app is gone: provisioner app remove {app.slug}",
    )


def knows_history(registry: Registry, app: App, git_dir: bytes) -> bool:
    """Has a repository the commit that the app's production was at last, or any if production never was at one? An app that
    never had a branch has no history, and no data that another repository could get."""
    known = registry.timelines_where(
        f"app_id = ? and revision <> '' order by not production, active_at desc limit {_MOST_REVISIONS}", app.id
    )
    revisions = [item.revision for item in known if item.production] or [item.revision for item in known]
    if not revisions:
        return True
    try:
        found = git(git_dir, "cat-file", "--batch-check", stdin="".join(f"{each}\n" for each in revisions).encode())
    except UnreadableRepository:
        return False
    return any(b" commit " in line for line in found.split(b"\n"))


def _away(app: App) -> bool:
    return app.detached_from is not None or not os.path.lexists(os.path.join(app.git_dir, b"HEAD"))
