"""The commands that were run, in the registry."""

from __future__ import annotations

from operator import attrgetter

from provisioner.core.ids import AppId, TimelineId
from provisioner.core.model import Run, RunState
from provisioner.registry.connection import Tables, printable
from provisioner.registry.errors import member

_RUN = "id, timeline_id, database_id, kind, revision, command, state, detail, started_at, ended_at"
_values = attrgetter(*_RUN.split(", "))


def _run(row: tuple[object, ...]) -> Run:
    return Run(*row[:6], member(RunState, row[6]), *row[7:])  # type: ignore[arg-type, call-arg]


def save_run(registry: Tables, run: Run) -> None:
    values = _values(run)
    registry.write(
        f"insert into run ({_RUN}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do update set"
        " state = excluded.state, detail = excluded.detail, ended_at = excluded.ended_at",
        *(*values[:5], printable(values[5]), values[6], printable(values[7]), *values[8:]),
    )


def runs(registry: Tables, timeline_id: TimelineId) -> list[Run]:
    """Those on a timeline that are remembered, the newest first."""
    rows = registry.rows(f"select {_RUN} from run where timeline_id = ? order by rowid desc", timeline_id)
    return [_run(row) for row in rows]


def last_run(registry: Tables, timeline_id: TimelineId, kind: str) -> Run | None:
    return next((run for run in runs(registry, timeline_id) if run.kind == kind), None)


def unfinished_runs(registry: Tables, app_id: AppId) -> list[Run]:
    """An app's runs that have started and not ended, or were interrupted."""
    columns = ", ".join(f"run.{name}" for name in _RUN.split(", "))
    rows = registry.rows(
        f"select {columns} from run cross join timeline on timeline.id = timeline_id where state = 'running' and app_id = ?",
        app_id,
    )
    return [_run(row) for row in rows]


def forget_run(registry: Tables, run: Run) -> None:
    registry.write("delete from run where id = ?", run.id)
