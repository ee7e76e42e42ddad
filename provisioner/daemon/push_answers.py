"""Answers to the hooks of pushes that need no look at the whole app."""

from __future__ import annotations

from collections.abc import Iterable

from provisioner.core.errors import summary
from provisioner.core.ids import AppId
from provisioner.core.naming import shown
from provisioner.daemon.hook_server import Push
from provisioner.daemon.watched_app import WatchedApp
from provisioner.daemon.worker import misplaced, report_known
from provisioner.registry.store import Registry


def answer(pushes: Iterable[Push], failure: str = "") -> None:
    """End these pushes: print why they failed, or nothing."""
    for push in pushes:
        push.answer([shown(f"provisioner: {failure}")] if failure else [])


def answer_known(registry: Registry, app_id: AppId, watched: WatchedApp) -> bool:
    """Answer pushes whose branches are already provisioned after an event; look at the other refs afterwards."""
    try:
        app = registry.app(app_id)
        answers = [report_known(registry, app, push.branches) if app else None for push in watched.waiting]
    except Exception:  # the look meets it too, and reports it
        return False
    for push, lines in zip(watched.waiting, answers, strict=True):
        if lines is not None:
            push.answer(lines)
    watched.waiting = [push for push, lines in zip(watched.waiting, answers, strict=True) if lines is None]
    return not watched.waiting


def refused(registry: Registry, push: Push) -> bool:
    """Whether it was pushed to another repository than the app's. Then its hook gets that answer, and does not wait."""
    try:
        app = registry.app(push.app_id)
        problem: Exception | None = misplaced(app, push.place) if app is not None else None
    except Exception as error:  # of one push: its hook gets the answer, and the others are taken in
        problem = error
    if problem is not None:
        answer([push], summary(problem))
    return problem is not None
