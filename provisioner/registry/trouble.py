"""What is wrong with timelines though their databases are connected, counted for each pair of instance and app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from provisioner.core.ids import AppId, InstanceId
from provisioner.core.model import App, Instance
from provisioner.registry.tables.connection import Tables

_DEPLOYS: Final = (
    "status not in ('archived', 'purged') and gone_at is null and pre_deploy || pre_deploy_from <> ''"
    " and not exists (select 1 from share where share.timeline_id = timeline.id)"
)
_WITHHELD: Final = (
    "timeline.production and gone_at is null and status = 'archived' and hold = 'archived' and not exists"
    " (select 1 from database as other where other.timeline_id = timeline.id"
    " and other.instance_id = database.instance_id and other.status not in ('archived', 'purged'))"
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Databases whose timeline's pre-deploy command `failed` at its revision, or has not ended there (`waiting`), and those
    of production that a person has archived (`withheld`)."""

    instance_id: InstanceId
    app_id: AppId
    failed: int
    waiting: int
    withheld: int


def troubles(registry: Tables) -> list[Trouble]:
    rows = registry.rows(
        "select instance_id, app_id,"
        f" count(*) filter (where {_DEPLOYS} and deployed = revision and failure is not null),"
        f" count(*) filter (where {_DEPLOYS} and deployed <> revision),"
        f" count(*) filter (where {_WITHHELD})"
        " from database join timeline on timeline.id = timeline_id join app on app.id = app_id"
        " group by instance_id, app_id"
    )
    return [Trouble(*row) for row in rows if any(row[2:])]  # type: ignore[arg-type]


def holds_production(registry: Tables, app: App, instance: Instance) -> bool:
    """Does production of an app have a live database on this instance?"""
    return bool(
        registry.rows(
            "select 1 from timeline join database on timeline_id = timeline.id where app_id = ? and production"
            " and gone_at is null and instance_id = ? and status not in ('archived', 'purged') limit 1",
            *(app.id, instance.id),
        )
    )
