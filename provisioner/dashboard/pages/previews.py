"""Previews: revisions of an app that have their own databases, listed and created as by `provisioner preview`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from provisioner.core.durations import lasting
from provisioner.core.errors import ProvisionerError, UsageError
from provisioner.core.ids import AppId
from provisioner.core.model import Database, Timeline
from provisioner.dashboard.pages.suggest import app_of, names
from provisioner.dashboard.web.context import PageContext
from provisioner.dashboard.web.forms import Filled, RequestedChange, filling, form_of
from provisioner.dashboard.web.sessions import Offer
from provisioner.git.refs import commit_of
from provisioner.operations import documents, previews
from provisioner.operations.proposal import ProgressReporter
from provisioner.reconcile.changes.previews import find_preview
from provisioner.reconcile.plan.planner_context import expires_at
from provisioner.registry import queries
from provisioner.registry.store import Registry

AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class PreviewRow:
    timeline: Timeline
    status: str
    databases: list[Database]
    expires_at: int | None


def page(visit: PageContext) -> Response:
    return _page(visit, form_of(visit))


def again(visit: PageContext, error: ProvisionerError) -> Response:
    return _page(visit, form_of(visit, error))


def _page(visit: PageContext, form: Filled) -> Response:
    app = app_of(visit)
    text = visit.query("skip")
    skip = int(text) if text.isdecimal() and len(text) < 9 else 0
    found = queries.previews(visit.registry, app.id, skip, AT_ONCE + 1)
    rows = []
    for timeline in found[:AT_ONCE]:
        databases = queries.databases_of(visit.registry, timeline)
        held = databases + queries.used_of_others(visit.registry, timeline)
        over = None if timeline.gone_at else expires_at(app, timeline)
        rows.append(PreviewRow(timeline, documents.status_of(app, timeline, held), databases, over))
    return visit.page(
        "previews.html",
        status=form.status,
        form=form,
        app=app,
        rows=rows,
        before=max(0, skip - AT_ONCE) if skip else None,
        after=skip + AT_ONCE if len(found) > AT_ONCE else None,
        lasts=previews.LASTS,
        names=[] if visit.session.read_only else names(visit, app),
    )


def create(visit: PageContext, reporter: ProgressReporter) -> RequestedChange:
    app = app_of(visit)
    given = visit.form
    revision, source = given.get("revision", "").strip(), given.get("source", "").strip()
    with filling("ttl"):
        lasts = lasting(given.get("ttl", "").strip() or previews.LASTS) or 0
    with filling("revision"):
        if not revision:
            raise UsageError("no revision was given", "Enter a commit, a tag, or a branch")
        commit = commit_of(app.git_dir, revision) or _known(visit.registry, app.id, revision)
        proposal = previews.create(
            visit.registry, app, revision, commit, reporter, source=source or previews.EMPTY, lasts_ms=lasts
        )

    def undo(registry: Registry) -> Offer | None:
        made = find_preview(registry, app, commit) if commit else None
        return Offer("Undo", f"/timelines/{made.id}/delete", {}) if made else None

    return RequestedChange(f"Create a preview of {revision[:64]}", proposal, f"/apps/{app.slug}/previews", undo)


def _known(registry: Registry, app_id: AppId, revision: str) -> str | None:
    """The repository may no longer have the commit of a preview that is recovered."""
    found = queries.preview(registry, app_id, revision.encode("utf-8", "surrogateescape"))
    return found.revision if found is not None else None
