"""The event ``timeline.connected``: programs can start on a timeline, or must be restarted there.

``timeline.ready`` is what a program that is started now would be connected to: the timeline's revision, and of each of its
databases the id, where it is, the generation of its credentials, and how often its data was replaced. It is empty while
programs cannot start, and while the branch is gone. Triggers note each timeline that a transaction may have changed in this
regard; when the transaction ends, `announce` compares, and records the event in it. So the event comes with what brought it
about, whatever code that was, and not twice.
"""

from __future__ import annotations

import os
import sqlite3

from provisioner.core.naming import timeline_name

CONNECTED = "timeline.connected"

_READY = """
  case when timeline.gone_at is not null or timeline.doubt <> '' or exists (
    select 1 from app where app.id = timeline.app_id and (app.removed_at is not null
      or app.pre_deploy || app.pre_deploy_from <> '' and (timeline.deployed <> timeline.revision
        or timeline.failure is not null) and not exists (select 1 from share where timeline_id = timeline.id))
  ) then '' else ifnull((
    select iif(count(id) < count(*), '', timeline.revision || group_concat(part, '')) from (
      select database.id, ' ' || database.id || ':' || moved || ':' || token_generation || ':' || replaced
        || ':' || ifnull(share.id, '') as part
      from assignment join instance on instance.id = assignment.instance_id
      left join share on share.timeline_id = timeline.id and share.instance_id = instance.id
      left join database on database.id = ifnull(share.database_id, (
        select own.id from database as own where own.timeline_id = timeline.id and own.instance_id = instance.id
          and own.status not in ('archived', 'purged')))
        and database.status = 'connected' and database.intent is null
      where assignment.app_id = timeline.app_id and assignment.removed_at is null and instance.deleted_at is null
      order by assignment.id)), '')
  end
"""

_TOUCHED = "insert into timeline_touched"


def _touched_by(database: str) -> str:
    """Note the timelines that use a database: its own, and those that share it."""
    return f"""
      {_TOUCHED} select timeline_id from database where id = {database};
      {_TOUCHED} select timeline_id from share where database_id = {database};
    """


_OF_APP = f"{_TOUCHED} select id from timeline where app_id = new.app_id and (gone_at is null or ready <> '')"
_CHANGED = "old.status <> new.status or old.intent is not new.intent or old.moved <> new.moved"

MIGRATION = f"""
  alter table event add column timeline_id text;
  alter table event add column revision text;
  alter table timeline add column ready text not null default '';
  update timeline set ready = {_READY};
  create table timeline_touched (timeline_id text not null) strict;
  create trigger ready_database_new after insert on database begin
    {_TOUCHED} values (new.timeline_id);
  end;
  create trigger ready_database after update of status, intent, moved, token_generation, replaced, timeline_id on database
    when {_CHANGED} or old.token_generation <> new.token_generation or old.replaced <> new.replaced
      or old.timeline_id <> new.timeline_id
  begin
    {_TOUCHED} values (old.timeline_id);
    {_touched_by("new.id")}
  end;
  create trigger ready_timeline after update of revision, deployed, failure, gone_at, doubt on timeline
    when old.revision <> new.revision or old.deployed <> new.deployed or old.failure is not new.failure
      or old.gone_at is not new.gone_at or old.doubt <> new.doubt
  begin
    {_TOUCHED} values (new.id);
  end;
  create trigger ready_share_new after insert on share begin
    {_TOUCHED} values (new.timeline_id);
  end;
  create trigger ready_share after update of id, database_id on share begin
    {_TOUCHED} values (new.timeline_id);
  end;
  create trigger ready_share_ended after delete on share begin
    {_TOUCHED} values (old.timeline_id);
  end;
  create trigger ready_assignment_new after insert on assignment begin
    {_OF_APP};
  end;
  create trigger ready_assignment after update of removed_at on assignment when old.removed_at is not new.removed_at begin
    {_OF_APP};
  end;
  create trigger ready_instance after update of deleted_at on instance when old.deleted_at is not new.deleted_at begin
    {_TOUCHED} select timeline.id from timeline join assignment on assignment.app_id = timeline.app_id
      where assignment.instance_id = new.id;
  end;
  create trigger ready_app after update of pre_deploy, pre_deploy_from, removed_at on app
    when old.pre_deploy <> new.pre_deploy or old.pre_deploy_from <> new.pre_deploy_from
      or old.removed_at is not new.removed_at
  begin
    {_TOUCHED} select id from timeline where app_id = new.id;
  end;
"""

_COMPARED = f"""
  select id, app_id, branch, production, preview, revision, ready, {_READY}
  from (select distinct timeline_id from timeline_touched) as touched
  cross join timeline on timeline.id = touched.timeline_id order by timeline.rowid
"""


def announce(db: sqlite3.Connection, at: int, cause: str) -> None:
    """Record the event for the timelines that the open transaction has made ready, or ready in another way."""
    if db.execute("select 1 from timeline_touched limit 1").fetchone() is None:
        return
    changed = [row for row in db.execute(_COMPARED).fetchall() if row[-1] != row[-2]]
    db.executemany("update timeline set ready = ? where id = ?", [(row[-1], row[0]) for row in changed])
    db.executemany(
        "insert into event (at, app_id, timeline, action, cause, timeline_id, revision) values (?, ?, ?, ?, ?, ?, ?)",
        [(at, row[1], _name(*row[2:5]), CONNECTED, cause, row[0], row[5]) for row in changed if row[-1]],
    )
    db.execute("delete from timeline_touched")


def _name(branch: bytes, production: int, preview: int) -> str:
    """As `provisioner.registry.tables.connection.printable` has it."""
    name = timeline_name(branch, production=bool(production), preview=bool(preview))
    return os.fsencode(os.fsdecode(name)).decode("utf-8", "backslashreplace")
