"""The apps that run for timelines, in the registry: how each app is run, each timeline's app, its deployments and domains."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, fields, replace
from typing import Any, Final

from provisioner.core.custom_domains import CustomDomain
from provisioner.core.hosting import (
    AppState,
    Deployment,
    DeploymentState,
    DeploymentStep,
    HostedApp,
    RunCommand,
    StepState,
)
from provisioner.core.ids import AppId, TimelineId
from provisioner.registry.errors import member
from provisioner.registry.schema.row_type import upsert
from provisioner.registry.store import Registry
from provisioner.registry.tables.connection import Tables, printable


def _columns(kind: Any) -> str:
    return ", ".join(field.name for field in fields(kind))


_RUN_COMMAND: Final = _columns(RunCommand)
_HOSTED: Final = _columns(HostedApp)
_DEPLOYMENT: Final = _columns(Deployment)
_STEP: Final = _columns(DeploymentStep)
_DOMAIN: Final = _columns(CustomDomain)

# how apps are run


def run_command(registry: Tables, app_id: AppId) -> RunCommand | None:
    rows = registry.rows(f"select {_RUN_COMMAND} from run_command where app_id = ?", app_id)
    return _run_command(rows[0]) if rows else None


def run_commands(registry: Tables) -> list[RunCommand]:
    """Those of all apps that are registered."""
    rows = registry.rows(
        f"select {_RUN_COMMAND} from run_command where app_id in (select id from app where removed_at is null)"
    )
    return [_run_command(row) for row in rows]


def save_run_command(registry: Tables, command: RunCommand) -> None:
    _save(registry, "run_command", _RUN_COMMAND, astuple(command))


def forget_run_command(registry: Tables, app_id: AppId) -> None:
    registry.write("delete from run_command where app_id = ?", app_id)


def hosting_apps(registry: Tables) -> list[AppId]:
    """The apps that are run, or of which something is left that was."""
    rows = registry.rows("select app_id from run_command union select app_id from hosted_app")
    return [AppId(str(row[0])) for row in rows]


# the apps of timelines


def hosted(registry: Tables, timeline_id: TimelineId) -> HostedApp | None:
    rows = registry.rows(f"select {_HOSTED} from hosted_app where timeline_id = ?", timeline_id)
    return _hosted(rows[0]) if rows else None


def hosted_among(registry: Tables, timeline_ids: Iterable[TimelineId]) -> list[HostedApp]:
    """The apps of these timelines, in one statement."""
    question = f"select {_HOSTED} from hosted_app where timeline_id in (select value from json_each(?))"
    return [_hosted(row) for row in registry.rows(question, json.dumps(list(timeline_ids)))]


def hosted_by_label(registry: Tables, app_id: AppId, label: str) -> HostedApp | None:
    rows = registry.rows(f"select {_HOSTED} from hosted_app where app_id = ? and label = ?", app_id, label)
    return _hosted(rows[0]) if rows else None


def all_hosted(registry: Tables, app_id: AppId) -> list[HostedApp]:
    rows = registry.rows(f"select {_HOSTED} from hosted_app where app_id = ?", app_id)
    return [_hosted(row) for row in rows]


def save_hosted(registry: Tables, app: HostedApp) -> None:
    values = list(astuple(app))
    values[_HOSTED.split(", ").index("error")] = printable(app.error)
    _save(registry, "hosted_app", _HOSTED, values)


def forget_hosted(registry: Tables, timeline_id: TimelineId) -> None:
    """Forget a timeline's app with its deployments."""
    registry.write(
        "delete from deployment_step where deployment_id in (select id from deployment where timeline_id = ?)",
        timeline_id,
    )
    registry.write("delete from deployment where timeline_id = ?", timeline_id)
    registry.write("delete from hosted_app where timeline_id = ?", timeline_id)


# deployments


def deployment(registry: Tables, deployment_id: str) -> Deployment | None:
    rows = registry.rows(f"select {_DEPLOYMENT} from deployment where id = ?", deployment_id)
    return _deployment(rows[0]) if rows else None


def deployments_among(registry: Tables, deployment_ids: Iterable[str]) -> list[Deployment]:
    """Those with these ids, in one statement."""
    question = f"select {_DEPLOYMENT} from deployment where id in (select value from json_each(?))"
    return [_deployment(row) for row in registry.rows(question, json.dumps(list(deployment_ids)))]


def latest_deployments(registry: Tables, revisions: Mapping[TimelineId, str]) -> list[Deployment]:
    """The last deployment of a revision of each of these timelines, in one statement."""
    question = (
        f"select {_DEPLOYMENT} from deployment where rowid in ("
        " select max(deployment.rowid) from json_each(?) as wanted join deployment"
        " on timeline_id = wanted.key and revision = wanted.value group by timeline_id)"
    )
    return [_deployment(row) for row in registry.rows(question, json.dumps(dict(revisions)))]


def deployments(registry: Tables, timeline_id: TimelineId) -> list[Deployment]:
    """Those of a timeline that are remembered, the newest first."""
    rows = registry.rows(f"select {_DEPLOYMENT} from deployment where timeline_id = ? order by rowid desc", timeline_id)
    return [_deployment(row) for row in rows]


def deployments_at(registry: Tables, app_id: AppId, beginning: str) -> list[Deployment]:
    """Those of an app's revisions whose ids begin so, the newest first."""
    columns = ", ".join(f"deployment.{name}" for name in _DEPLOYMENT.split(", "))
    rows = registry.rows(
        f"select {columns} from hosted_app join deployment using (timeline_id)"
        " where app_id = ? and revision >= ? and revision < ? order by deployment.rowid desc",
        *(app_id, beginning, f"{beginning}g"),
    )
    return [_deployment(row) for row in rows]


def unfinished_deployments(registry: Tables) -> list[Deployment]:
    """Those that are at work, or were when the daemon ended."""
    rows = registry.rows(f"select {_DEPLOYMENT} from deployment where state in ('building', 'built', 'starting')")
    return [_deployment(row) for row in rows]


def save_deployment(registry: Tables, item: Deployment) -> None:
    values = list(astuple(item))
    values[_DEPLOYMENT.split(", ").index("error")] = printable(item.error)
    _save(registry, "deployment", _DEPLOYMENT, values)


def forget_deployment(registry: Tables, deployment_id: str) -> None:
    registry.write("delete from deployment_step where deployment_id = ?", deployment_id)
    registry.write("delete from deployment where id = ?", deployment_id)


def steps(registry: Tables, deployment_id: str) -> list[DeploymentStep]:
    """The steps of a deployment, in the order in which they started."""
    rows = registry.rows(f"select {_STEP} from deployment_step where deployment_id = ? order by rowid", deployment_id)
    return [DeploymentStep(str(row[0]), str(row[1]), member(StepState, row[2]), *row[3:]) for row in rows]  # type: ignore[arg-type]


def save_step(registry: Tables, step: DeploymentStep) -> None:
    values = list(astuple(step))
    values[_STEP.split(", ").index("error")] = printable(step.error)
    _save(registry, "deployment_step", _STEP, values, key=2)


# custom domains, each of which is claimed by one timeline of the home


def custom_domain(registry: Tables, name: str) -> CustomDomain | None:
    found = _domains_where(registry, "name = ?", name)
    return found[0] if found else None


def domains_of_app(registry: Tables, app_id: AppId) -> list[CustomDomain]:
    return _domains_where(registry, "app_id = ?", app_id)


def domains_of_timeline(registry: Tables, timeline_id: TimelineId) -> list[CustomDomain]:
    return _domains_where(registry, "timeline_id = ?", timeline_id)


def all_domains(registry: Tables) -> list[CustomDomain]:
    return _domains_where(registry, "true")


def save_domain(registry: Tables, domain: CustomDomain) -> None:
    _save(registry, "custom_domain", _DOMAIN, astuple(domain))


def forget_domain(registry: Tables, name: str) -> None:
    registry.write("delete from custom_domain where name = ?", name)


def carry_domains(registry: Registry, moved: Mapping[TimelineId, TimelineId], now: int) -> None:
    """Branches were renamed: the claims of the timeline of one go to another's, by their ids. Those of that one have ended."""
    for claim in all_domains(registry):
        if target := moved.get(claim.timeline_id):
            save_domain(registry, replace(claim, timeline_id=target))
        elif claim.timeline_id in moved.values() and claim.ended_at is None:
            save_domain(registry, replace(claim, ended_at=now))
            timeline = registry.timeline(claim.timeline_id)
            registry.audit(now, "domain.end", timeline, detail=claim.name, cause="its branch was replaced")


def _domains_where(registry: Tables, condition: str, *values: object) -> list[CustomDomain]:
    rows = registry.rows(f"select {_DOMAIN} from custom_domain where {condition} order by created_at, name", *values)
    return [CustomDomain(*row) for row in rows]  # type: ignore[arg-type]


def _save(registry: Tables, table: str, columns: str, values: Iterable[object], key: int = 1) -> None:
    """Insert a row, or change the one with the same key, which is in its first columns."""
    names = columns.split(", ")
    registry.write(upsert(table, names, names[key:], key=", ".join(names[:key])), *values)


def _run_command(row: tuple[object, ...]) -> RunCommand:
    values = dict(zip(_RUN_COMMAND.split(", "), row, strict=True))
    values |= {name: bool(values[name]) for name in ("from_repository", "public", "unfenced")}
    return RunCommand(**values)  # type: ignore[arg-type]


def _hosted(row: tuple[object, ...]) -> HostedApp:
    values = dict(zip(_HOSTED.split(", "), row, strict=True))
    values["state"] = member(AppState, values["state"])
    return HostedApp(**values)  # type: ignore[arg-type]


def _deployment(row: tuple[object, ...]) -> Deployment:
    values = dict(zip(_DEPLOYMENT.split(", "), row, strict=True))
    values["state"] = member(DeploymentState, values["state"])
    return Deployment(**values)  # type: ignore[arg-type]
