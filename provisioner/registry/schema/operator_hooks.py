"""The hooks of operators in the registry: their commands, and what they are to be run for.

A trigger records in the transaction of an event that its hook is due. So no event is forgotten, whenever a process is killed.
"""

from __future__ import annotations

MIGRATION = """
  create table operator_hook (
    app_id text not null references app (id),
    action text not null,
    command text not null,
    primary key (app_id, action)
  ) strict;
  create table hook_due (
    seq integer primary key,
    app_id text not null references app (id),
    timeline_id text not null references timeline (id),
    action text not null,
    at integer not null,
    attempts integer not null default 0
  ) strict;
  create index hook_due_app on hook_due (app_id, seq);
  create index event_announced on event (timeline_id, id) where action in ('timeline.connected', 'timeline.gone');
  create trigger hook_due after insert on event when new.timeline_id is not null begin
    insert into hook_due (seq, app_id, timeline_id, action, at)
      select new.id, new.app_id, new.timeline_id, new.action, new.at
      from operator_hook where app_id = new.app_id and action = new.action;
  end;
"""
