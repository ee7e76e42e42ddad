"""The timelines of an app that a plan can skip: most of them, most of the time.

One question to SQLite classifies all of them, in a fifth of the time that it takes to read them and their databases as
values. `tests/reconcile/test_observation.py` compares what it leaves out with what the planner says of the whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Container
from dataclasses import dataclass
from typing import Final, NamedTuple

from provisioner.core.ids import InstanceId, TimelineId
from provisioner.core.model import App
from provisioner.registry.store import Registry

_LOOK, _LIVE, _AT_REVISION, _ABSENT, _QUIET = range(5)
"""When there is nothing to do about a timeline, as far as the registry says: never; while its branch is there at its
revision, where it has its databases; the same, or while its branch is not there; while its branch is not there; always."""

_QUESTION: Final = f"""
with held as (
  select timeline.id, branch, revision, rename_mark, gone_at, production, preview, protected, lineage, doubt,
    count(case when status <> 'archived' and hold is null then 1 end) as live,
    count(case when hold is not 'orphaned' then database.id end) as held,
    case when not production and not protected then
      active_at + nullif(case when expire_ms is null and not preview then :expire else expire_ms end, 0) end as over,
    sum(case when database.id is null then 0
      when status = 'connected' and intent is null and hold is null and renewals = renewed
        and instance_id in (select value from json_each(:assigned)) then 1
      when status = 'archived' and intent is null and (hold is null or hold = 'orphaned') and retry_at is null
        and instance_id not in (select value from json_each(:deleted))
        and (purge_at > :now or purge_at is null and instance_id not in (select value from json_each(:assigned)))
        and not exists (select 1 from share where database_id = database.id) then 0
      else 1000000 end) as used,
    min(case when status = 'archived' and not protected then purge_at end) as purge,
    exists (select 1 from share where share.timeline_id = timeline.id) as sharing
  from timeline left join database on timeline_id = timeline.id and status <> 'purged'
  where app_id = :app group by timeline.branch, timeline.rowid
)
select case
    when sharing or doubt <> '' or production and branch <> :production then {_LOOK}
    when preview then iif(used = iif(gone_at is null and ifnull(over > :now, 1), :count, 0), {_QUIET}, {_LOOK})
    when branch = :production and not production then iif(used = 0, {_QUIET}, {_LOOK})
    when gone_at is null and ifnull(over > :now, 1) and used = :count then iif(used, {_LIVE}, {_AT_REVISION})
    when gone_at is null and over <= :now and used = 0 then {_AT_REVISION}
    else iif(used = 0, {_ABSENT}, {_LOOK}) end,
  id, revision, rename_mark,
  iif(gone_at is null and over > :now and (preview or branch <> :production), over, null), purge, preview,
  branch, lineage, gone_at is not null, live > 0 or sharing, held > 0 or sharing or doubt <> '',
  not production and not preview and branch <> :production and (gone_at is null or lineage <> '')
from held
"""


class Lineage(NamedTuple):
    """What tells a timeline's branch from others of its name, with 0 or 1 for: it was not there at the last look; its data
    is in use; there is data that no other branch must get; it is of interest which branch that is."""

    branch: bytes
    lineage: str
    gone: int
    live: int
    holds: int
    matters: int


class _Classified(NamedTuple):
    """A row of the question: `quiet` says when there is nothing to do; times in milliseconds."""

    quiet: int
    id: TimelineId
    revision: str
    rename_mark: str
    expires_at: int | None
    purge_at: int | None
    preview: int
    branch: bytes
    lineage: str
    gone: int
    live: int
    holds: int
    matters: int


@dataclass(frozen=True, slots=True)
class Settled:
    """`revisions`, by branch: nothing is to be done about its timeline while the branch is there at this revision. `live`
    are those of them that have databases in use: they are expected to be there. `unsettled` are the ids of timelines
    that a plan must include whatever the refs are. `lineages` are those of branches whose identity matters; `marks` are
    renames that were followed before there were lineages.
    """

    revisions: dict[bytes, str]
    live: frozenset[bytes]
    unsettled: list[TimelineId]
    lineages: list[Lineage]
    marks: frozenset[str]
    _expiries: list[tuple[int, bytes, bool]]
    _purges: list[tuple[int, bytes]]

    def next_at(self, there: Container[bytes], looked_at: Container[bytes]) -> int | None:
        """When (ms) time alone changes that, but for the branches that are `looked_at`. `there` are the branches that
        there are."""
        times = [
            at for at, branch, preview in self._expiries if preview or (branch in there and branch not in looked_at)
        ]
        times += [at for at, branch in self._purges if branch not in looked_at]
        return min(times, default=None)


def settled(registry: Registry, app: App, now: int, deleted: Collection[InstanceId]) -> Settled:
    """Classify the app's timelines at `now` (ms). `deleted` are the ids of instances that were deleted."""
    assigned = [instance.id for instance in registry.assigned(app.id)]
    rows = registry.rows_named(
        _QUESTION,
        {
            "app": app.id,
            "production": app.production,
            "expire": app.expire_ms,
            "now": now,
            "count": len(assigned),
            "assigned": json.dumps(assigned),
            "deleted": json.dumps(list(deleted)),
        },
    )
    found = [_Classified._make(row) for row in rows]
    known = [each for each in found if each.quiet != _LOOK]
    return Settled(
        {each.branch: each.revision for each in found if each.quiet in (_LIVE, _AT_REVISION)},
        frozenset(each.branch for each in found if each.quiet == _LIVE),
        [each.id for each in found if each.quiet == _LOOK],
        [
            Lineage(each.branch, each.lineage, each.gone, each.live, each.holds, each.matters)
            for each in found
            if each.matters
        ],
        frozenset(mark for each in found for mark in each.rename_mark.split()),
        [(each.expires_at, each.branch, bool(each.preview)) for each in known if each.expires_at is not None],
        [(each.purge_at, each.branch) for each in known if each.purge_at is not None],
    )
