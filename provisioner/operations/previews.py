"""Previews: revisions that have their own databases for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator

from provisioner.core.clock import now_ms
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.ids import InstanceId
from provisioner.core.model import App, Timeline
from provisioner.core.naming import shown
from provisioner.engines.protocol.engine import Source
from provisioner.operations import documents
from provisioner.operations.lookup import timeline_meant
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.operations.reconcile_now import run, run_whole
from provisioner.operations.target import all_used, of_timeline
from provisioner.reconcile.changes.previews import close_preview, find_preview, open_preview
from provisioner.registry import queries, snapshots
from provisioner.registry.store import Registry

LASTS = "7d"
SHORTEST_ID = 7
EMPTY, SNAPSHOT = "empty", "snapshot"


def create(
    registry: Registry,
    app: App,
    revision: str,
    commit: str | None,
    reporter: ProgressReporter,
    *,
    source: str,
    lasts_ms: int,
) -> Proposal:
    """Give a revision its own databases. A preview that existed before is recovered with its data.

    `commit` is its full id, resolved by the caller, because HEAD differs in each checkout. `source` is ``empty``,
    ``snapshot`` for the data as it was at the revision, or a timeline or branch to copy. `lasts_ms` 0 is without end.
    """
    if commit is None:
        raise NotResolved(
            f"{revision[:100]!r} is not a commit of {os.fsdecode(app.git_dir)}", "Push it, or choose another"
        )
    if not registry.assigned(app.id):
        raise NotResolved(
            f"app {app.slug!r} has no database instance assigned", f"Run: provisioner assign INSTANCE {app.slug}"
        )
    if source != EMPTY and document(registry, app, commit) is not None:
        raise ProvisionerError(
            f"preview/{commit} already has data",
            f"To replace it: provisioner database reset preview/{commit} --from {source}",
        )
    sources = _sources(registry, app, commit, source, reporter)

    def do(reporter: ProgressReporter) -> Iterator[str]:
        open_preview(registry, app, commit, now_ms(), lasts_ms=lasts_ms, sources=sources)
        run_whole(registry, app, "preview", reporter)
        made = document(registry, app, commit)
        assert made is not None  # noqa: S101 - it has just been made
        yield line(made)
        failed = next((item for item in made["databases"] if item["error"]), None)
        if failed is not None:
            raise ProvisionerError(
                f"{failed['name']}: {failed['error']}",
                f"Resolve this, then run: provisioner database fix {failed['name']}",
            )

    return Proposal(do)


def delete(registry: Registry, app: App, timeline: Timeline) -> Proposal:
    """Archive a preview's databases."""

    def do(reporter: ProgressReporter) -> Iterator[str]:
        close_preview(registry, app, timeline, now_ms())
        run(registry, app, "preview", reporter, retry=queries.ids_of(registry, timeline))
        left = document(registry, app, timeline.revision)
        yield line(left) if left else f"Deleted {shown(timeline.name)}"

    return Proposal(do, f"Delete {shown(timeline.name)}? Its data is recoverable for the retention period.")


def find(registry: Registry, app: App, revision: str, commit: str | None) -> Timeline:
    """The preview of a commit, or of one whose id starts with `revision`: the commit itself may be gone."""
    found = find_preview(registry, app, commit) if commit else None
    if found is not None:
        return found
    if len(revision) >= SHORTEST_ID:
        begins = queries.previews_like(registry, app.id, revision)
        if len(begins) == 1:
            return begins[0]
    raise NotResolved(f"app {app.slug!r} has no preview of {revision!r}", "List previews: provisioner preview list")


def document(registry: Registry, app: App, commit: str) -> documents.Document | None:
    """Its document in `preview list --json`; None if it has no databases."""
    found = find_preview(registry, app, commit)
    made = documents.timeline(registry, app, found) if found is not None else None
    return made if made is not None and made["databases"] else None


def line(preview: documents.Document) -> str:
    names = ", ".join(item["name"] for item in preview["databases"])
    until = f"  until {preview['expires_at']}" if preview["expires_at"] else ""
    return shown(f"{preview['timeline']}  {preview['status']}  {names}{until}")


def _sources(
    registry: Registry, app: App, commit: str, source: str, reporter: ProgressReporter
) -> dict[InstanceId, Source]:
    """The database to copy on each of the app's instances, by the instance's id."""
    if source == EMPTY:
        return {}
    if source != SNAPSHOT:
        timeline = timeline_meant(registry, app, os.fsencode(source), reporter)
        return {item.instance_id: Source(item) for item in all_used(of_timeline(registry, app, timeline))}
    found: dict[InstanceId, Source] = {}
    for kept in snapshots.at_revision(registry, app.id, commit):
        database = registry.database(kept.database_id)
        assert database is not None  # noqa: S101 - rows of databases are never deleted
        found.setdefault(database.instance_id, Source(database, kept.id))
    missing = [item.slug for item in registry.assigned(app.id) if item.id not in found]
    if missing:
        raise NotResolved(
            f"instance {missing[0]!r} has no data as it was at {commit}",
            f"To keep the data of later revisions: provisioner app set {app.slug} --snapshot-revisions 10",
        )
    return found
