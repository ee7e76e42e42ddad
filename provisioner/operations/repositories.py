"""The repository of an app: found at registration, and changed by a person."""

from __future__ import annotations

import os
from contextlib import suppress

from provisioner.core.errors import ProvisionerError, WrongRepository
from provisioner.core.model import App
from provisioner.git.anchors import remove_anchors
from provisioner.git.repository_id import app_ids, claim, found_elsewhere, release
from provisioner.reconcile.repository_identity import knows_history, must_be_its_own
from provisioner.registry.store import Registry


def known(registry: Registry, common_dir: bytes) -> App | None:
    """The app that has this repository, or had it before it was removed, or has it in the home that this one is a copy of.

    Raises `WrongRepository` if another repository has its place, or if it belongs to an app with another path.
    """
    for app in registry.apps():
        if app.git_dir == common_dir:
            must_be_its_own(registry, app)
            return app
    for app in registry.apps():
        if app.detached_from == common_dir:
            if problem := unlike(registry, app, common_dir):
                raise WrongRepository(
                    problem.message,
                    f"If the app's repository is elsewhere, run: provisioner app set {app.slug} --repository PATH."
                    f" If the app is gone: provisioner app remove {app.slug}",
                )
            return app
    for app in registry.apps():
        moved = app.id in app_ids(common_dir) and app.id not in app_ids(app.git_dir)
        if moved and app.detached_from is None:
            raise found_elsewhere(app.id, app.slug, app.git_dir, common_dir)
    return None


def make_way(registry: Registry, common_dir: bytes, new: App | None = None) -> None:
    """A removed app keeps its path for its recovery, unless another repository is there by then, or a person registers the
    path as a `new` app."""
    for app in registry.apps(removed=True):
        if app.git_dir == common_dir and registry.app(app.id) is None:
            back = app.id in app_ids(common_dir) or knows_history(registry, app, common_dir)
            if new is not None or not back:
                registry.forget_place(app)


def take(registry: Registry, app: App, common_dir: bytes) -> None:
    """Write the app's id into the repository, and into no copy of it that is another app of this home."""
    with suppress(OSError):  # without it, the repository is recognized by its history each time
        for other in registry.apps(removed=True):
            if other.id != app.id and other.id in app_ids(common_dir):
                leave(other, common_dir)
        claim(common_dir, app.id)


def leave(app: App, common_dir: bytes) -> None:
    """Remove the app's id from a repository. Raises OSError."""
    remove_anchors(common_dir, app.id)
    release(common_dir, app.id)


def exchanged(registry: Registry, app: App, common_dir: bytes) -> App | None:
    """The app whose path the repository of `app` now has, if that app has the path of `app`; None if the path is free.

    Raises ProvisionerError if the path is another app's.
    """
    other = next((item for item in registry.apps() if item.git_dir == common_dir and item.id != app.id), None)
    if other is None:
        return None
    if app.id in app_ids(common_dir) and other.id in app_ids(app.git_dir):
        return other
    raise ProvisionerError(
        f"{os.fsdecode(common_dir)} is the repository of app {other.slug!r}",
        f"First give its new location: provisioner app set {other.slug} --repository PATH",
    )


def unlike(registry: Registry, app: App, common_dir: bytes) -> WrongRepository | None:
    """Why a repository does not seem to be the app's; None if it has the app's id or history."""
    if app.id in app_ids(common_dir) or knows_history(registry, app, common_dir):
        return None
    return WrongRepository(f"{os.fsdecode(common_dir)} has none of the history of app {app.slug!r}")
