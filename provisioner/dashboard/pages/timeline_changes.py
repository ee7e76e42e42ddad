"""Changes of a timeline: each as `provisioner timeline`, `database share`, and `preview delete` do it."""

from __future__ import annotations

import os

from provisioner.core.durations import lasting, written
from provisioner.core.errors import UsageError
from provisioner.core.model import App, Timeline
from provisioner.core.naming import shown
from provisioner.dashboard.pages.suggest import timeline_of
from provisioner.dashboard.web.context import Missing, PageContext
from provisioner.dashboard.web.forms import RequestedChange, filling
from provisioner.dashboard.web.sessions import Offer
from provisioner.operations import lookup, previews, retention, retry, shares
from provisioner.operations.instance import names as instances
from provisioner.operations.proposal import ProgressReporter
from provisioner.operations.target import of_timeline
from provisioner.registry import queries

NEVER, DEFAULT = "never", "default"


def protect(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    return _protected(visit, protected=True)


def unprotect(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    return _protected(visit, protected=False)


def _protected(visit: PageContext, *, protected: bool) -> RequestedChange:
    app, timeline, page = _meant(visit)
    proposal = retention.protect(visit.registry, app, timeline, protected=protected)
    back = Offer("Undo", f"{page}/protect", {})
    if protected:
        back = Offer("Undo", f"{page}/unprotect", {})
    what = "Protect" if protected else "Remove the protection of"
    return RequestedChange(f"{what} {shown(timeline.name)}", proposal, page, lambda _: back)


def expire(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    """`after` is a duration, or one of two words: never, or the app's setting."""
    app, timeline, page = _meant(visit)
    text = visit.form.get("after", "").strip()
    with filling("after"):
        lasts = None if text == DEFAULT else lasting(text) or 0
        proposal = retention.expire(visit.registry, app, timeline, lasts)
    before = timeline.expire_ms
    said = DEFAULT if before is None else written(before) if before else NEVER
    offer = Offer("Undo", f"{page}/expire", {"after": said}) if before != lasts else None
    return RequestedChange(f"Set the expiry of {shown(timeline.name)}: {text}", proposal, page, lambda _: offer)


def share(visit: PageContext, reporter: ProgressReporter) -> RequestedChange:
    """Let the timeline of the path use the database of the timeline in `owner`."""
    app, timeline, page = _meant(visit)
    instance = visit.form.get("instance") or None
    with filling("owner"):
        owner = _named(visit, app, visit.form.get("owner", "").strip(), reporter)
        targets = (of_timeline(visit.registry, app, each, instance) for each in (owner, timeline))
        proposal = shares.share(visit.registry, app, *targets)
    offer = Offer("Undo", f"{page}/unshare", {"instance": instance or ""})
    return RequestedChange(
        f"Let {shown(timeline.name)} use the database of {shown(owner.name)}", proposal, page, lambda _: offer
    )


def unshare(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, timeline, page = _meant(visit)
    slug = visit.form.get("instance", "")
    instance = instances.find(visit.registry, slug) if slug else None
    proposal = shares.unshare(visit.registry, app, timeline, instance)
    used = [
        item
        for item in queries.used_of_others(visit.registry, timeline)
        if instance is None or item.instance_id == instance.id
    ]
    offer = Offer("Undo", f"{page}/share", {"owner": used[0].name, "instance": slug}) if len(used) == 1 else None
    return RequestedChange(f"Give {shown(timeline.name)} its own database again", proposal, page, lambda _: offer)


def fix(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, timeline, page = _meant(visit)
    return RequestedChange(f"Fix {shown(timeline.name)}", retry.timeline(visit.registry, app, timeline), page)


def delete_preview(visit: PageContext, _: ProgressReporter) -> RequestedChange:
    app, timeline, page = _meant(visit)
    if not timeline.preview or timeline.gone_at is not None:
        raise Missing(f"{shown(timeline.name)} is not an existing preview", "List previews: provisioner preview list")
    lasts = written(timeline.expire_ms) if timeline.expire_ms else NEVER
    again = {"revision": timeline.revision, "source": previews.EMPTY, "ttl": lasts}
    offer = Offer("Undo", f"/apps/{app.slug}/previews", again)
    return RequestedChange(
        f"Delete {shown(timeline.name)}", previews.delete(visit.registry, app, timeline), page, lambda _: offer
    )


def _named(visit: PageContext, app: App, text: str, reporter: ProgressReporter) -> Timeline:
    """By its name, its branch, or the name of its database."""
    if not text:
        raise UsageError("no timeline was given", "Enter one")
    called = [found for owner, found in lookup.called(visit.registry, text) if owner.id == app.id]
    if len(called) == 1:
        return visit.registry.timeline(called[0].timeline_id)
    return lookup.timeline_meant(visit.registry, app, os.fsencode(text), reporter)


def _meant(visit: PageContext) -> tuple[App, Timeline, str]:
    app, timeline = timeline_of(visit)
    return app, timeline, f"/timelines/{timeline.id}"
