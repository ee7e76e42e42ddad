"""How long a timeline is kept: protection and expiry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.errors import ProvisionerError
from provisioner.core.model import App, Timeline
from provisioner.core.naming import shown
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.reconcile_now import run
from provisioner.reconcile.apply.locks import app_locked
from provisioner.reconcile.plan.planner_context import expires_at
from provisioner.registry.queries import ids_of
from provisioner.registry.store import Registry


def protect(registry: Registry, app: App, timeline: Timeline, *, protected: bool) -> Proposal:
    """Protect a timeline, or remove its protection."""

    def do(reporter: ProgressReporter) -> Iterator[str]:
        action = "timeline.protect" if protected else "timeline.unprotect"
        _change(registry, app, timeline, action, reporter, protected=protected)
        yield f"{shown(timeline.name)} is {'' if protected else 'not '}protected"

    return Proposal(do)


def expire(registry: Registry, app: App, timeline: Timeline, lasts_ms: int | None) -> Proposal:
    """Set a timeline's expiry, counted from now or its last push; 0: never, None: the app's setting."""
    if timeline.production:
        raise ProvisionerError("the production timeline never expires", "Choose another")
    if timeline.preview and lasts_ms is None:
        raise ProvisionerError("a preview has its own expiry", "Use --after DURATION or --after never")

    def do(reporter: ProgressReporter) -> Iterator[str]:
        changed = _change(registry, app, timeline, "timeline.expire", reporter, expire_ms=lasts_ms, active_at=now_ms())
        at = expires_at(app, changed)
        protected = ": it is protected" if changed.protected else ""
        yield f"{shown(timeline.name)} {f'expires at {rfc3339(at)}' if at else 'does not expire'}{protected}"

    return Proposal(do)


def _change(
    registry: Registry, app: App, timeline: Timeline, action: str, reporter: ProgressReporter, **said: Any
) -> Timeline:
    """Save a change of a timeline's settings, only of those that were given, because another process may have changed
    others. Apply it, and return the timeline."""
    with app_locked(registry, app), registry.change():
        current = registry.timeline(timeline.id)
        changed = replace(current, **said)
        changed = replace(changed, active_at=max(current.active_at, changed.active_at))
        registry.save_timelines([changed])
        lasts = "" if changed.expire_ms is None else f"{changed.expire_ms} ms"
        registry.audit(now_ms(), action, changed, detail=lasts)
    run(registry, app, action, reporter, retry=ids_of(registry, timeline))
    return changed
