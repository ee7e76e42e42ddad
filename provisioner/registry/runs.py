"""The commands that were run, in the registry."""

from __future__ import annotations

from provisioner.core.ids import AppId, TimelineId
from provisioner.core.model import Run, RunState
from provisioner.registry.schema.row_type import RowType, one_of
from provisioner.registry.tables.connection import Tables, printable

RUN = RowType(
    Run,
    "run",
    (
        *("id", "timeline_id", "database_id", "kind", "revision", "command", "state", "detail", "started_at"),
        "ended_at",
    ),
    parse={"state": one_of(RunState)},
    stored={"command": printable, "detail": printable},
)


def save_run(registry: Tables, run: Run) -> None:
    registry.write(RUN.upsert(("state", "detail", "ended_at")), *RUN.values(run))


def runs(registry: Tables, timeline_id: TimelineId) -> list[Run]:
    """Those on a timeline that are remembered, the newest first."""
    rows = registry.rows(f"select {RUN.select} from run where timeline_id = ? order by rowid desc", timeline_id)
    return [RUN.read(row) for row in rows]


def last_run(registry: Tables, timeline_id: TimelineId, kind: str) -> Run | None:
    return next((run for run in runs(registry, timeline_id) if run.kind == kind), None)


def unfinished_runs(registry: Tables, app_id: AppId) -> list[Run]:
    """An app's runs that have started and not ended, or were interrupted."""
    rows = registry.rows(
        f"select {RUN.select} from run cross join timeline on timeline.id = timeline_id where state = 'running' and app_id = ?",
        app_id,
    )
    return [RUN.read(row) for row in rows]


def forget_run(registry: Tables, run: Run) -> None:
    registry.write("delete from run where id = ?", run.id)
