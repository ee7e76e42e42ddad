"""Changes of a timeline's app: each as `provisioner app` does it."""

from __future__ import annotations

from provisioner.core.hosting import AppState, HostedApp
from provisioner.core.model import App, Timeline
from provisioner.core.naming import SHORT_REVISION, shown
from provisioner.dashboard.pages.suggest import timeline_of
from provisioner.dashboard.web.context import PageContext
from provisioner.dashboard.web.forms import RequestedChange
from provisioner.dashboard.web.sessions import Offer
from provisioner.operations.hosting import timeline_app
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.registry import hosting


def start(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, timeline = timeline_of(visit)
    proposal = timeline_app.start(visit.registry, app, timeline)
    known = hosting.hosted(visit.registry, timeline.id)
    stopped = known is not None and known.state is AppState.STOPPED
    return _requested(
        timeline, "Start the app", proposal, Offer("Undo", _path(timeline, "stop"), {}) if stopped else None
    )


def stop(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, timeline = timeline_of(visit)
    proposal = timeline_app.stop(visit.registry, app, timeline)
    return _requested(timeline, "Stop the app", proposal, Offer("Undo", _path(timeline, "start"), {}))


def redeploy(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, timeline = timeline_of(visit)
    return _requested(timeline, "Redeploy the app", timeline_app.redeploy(visit.registry, app, timeline), None)


def roll_back(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    """To the revision in the form, or to the last healthy one before."""
    app, timeline, commit = _meant(visit)
    proposal = timeline_app.roll_back(visit.registry, app, timeline, commit or None)
    return _requested(timeline, "Roll back the app", proposal, _unlocked_again(visit, timeline))


def lock(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    """To the revision in the form, or to the one that runs."""
    app, timeline, commit = _meant(visit)
    proposal = timeline_app.lock(visit.registry, app, timeline, commit or None)
    revision = commit[:SHORT_REVISION] if commit else "the running revision"
    return _requested(timeline, "Lock the app", proposal, _unlocked_again(visit, timeline), f" to {revision}")


def unlock(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, timeline = timeline_of(visit)
    proposal = timeline_app.unlock(visit.registry, app, timeline)
    known = hosting.hosted(visit.registry, timeline.id)
    locked = known.locked if known is not None else ""
    offer = Offer("Undo", _path(timeline, "lock"), {"commit": locked}) if locked else None
    return _requested(timeline, "Unlock the app", proposal, offer)


def _unlocked_again(visit: PageContext, timeline: Timeline) -> Offer:
    """What makes the app follow what it follows now."""
    known: HostedApp | None = hosting.hosted(visit.registry, timeline.id)
    if known is not None and known.locked:
        return Offer("Undo", _path(timeline, "lock"), {"commit": known.locked})
    return Offer("Undo", _path(timeline, "unlock"), {})


def _meant(visit: PageContext) -> tuple[App, Timeline, str]:
    app, timeline = timeline_of(visit)
    return app, timeline, visit.form.get("commit", "").strip()


def _requested(timeline: Timeline, what: str, proposal: Proposal, offer: Offer | None, to: str = "") -> RequestedChange:
    title = f"{what} of {shown(timeline.name)}{to}"
    return RequestedChange(title, proposal, f"/timelines/{timeline.id}", lambda _: offer)


def _path(timeline: Timeline, what: str) -> str:
    return f"/timelines/{timeline.id}/app/{what}"
