"""Custom domains in the registry. Triggers end a claim in the transaction of what ends it, whatever code brings that about.

A claim ends when the app is removed, when the last live database of a branch's timeline is archived, when a live one is no longer
its branch's, and when a branch is there again whose data is no longer live: that may be another person's branch with the same
name. Production's ends with its app only. A claim goes with a branch that is renamed: `carry_domains`. An ended claim keeps its
row, so that people see why requests for the domain are refused.
"""

from __future__ import annotations

_NOW = "cast((julianday('now') - 2440587.5) * 86400000 as integer)"
_OF_BRANCH = (
    "timeline_id = new.timeline_id and exists (select 1 from timeline where id = new.timeline_id and not production)"
)
_LIVE = "status not in ('archived', 'purged')"
_ARCHIVED = f"{_OF_BRANCH} and not exists (select 1 from database where timeline_id = new.timeline_id and {_LIVE})"


def _ended(where: str, why: str) -> str:
    return f"""
      insert into event (at, app_id, timeline_id, action, cause, detail)
        select {_NOW}, app_id, timeline_id, 'domain.end', '{why}', name
        from custom_domain where ended_at is null and {where};
      update custom_domain set ended_at = {_NOW} where ended_at is null and {where};
    """


MIGRATION = f"""
  create table custom_domain (
    name text primary key,
    app_id text not null references app (id),
    timeline_id text not null references timeline (id),
    proof text not null,
    created_at integer not null,
    verified_at integer,
    verified_by text not null,
    ended_at integer
  ) strict;
  create index custom_domain_timeline on custom_domain (timeline_id);
  create index custom_domain_app on custom_domain (app_id);
  create trigger domain_archived after update of status on database
    when new.status = 'archived' and old.status <> 'archived' begin
    {_ended(_ARCHIVED, "its timeline was archived")}
  end;
  create trigger domain_branch_recreated after update of gone_at on timeline
    when old.gone_at is not null and new.gone_at is null and not new.production
      and not exists (select 1 from database where timeline_id = new.id and {_LIVE}) begin
    {_ended("timeline_id = new.id", "its branch was gone")}
  end;
  create trigger domain_app_removed after update of removed_at on app
    when old.removed_at is null and new.removed_at is not null begin
    {_ended("app_id = new.id", "its app was removed")}
  end;
"""

ORPHANED = f"""
  create trigger domain_orphaned after update of hold on database
    when new.hold = 'orphaned' and old.hold is not 'orphaned' and new.{_LIVE} begin
    {_ended(_OF_BRANCH, "its branch is another one")}
  end;
"""
