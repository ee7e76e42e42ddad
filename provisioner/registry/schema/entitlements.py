"""Events that end an entitlement to a database: what was handed out until then opens it no more.

Credentials are derived from the database's generation and, for a timeline that uses another's database, from the share's
id. These triggers are the one place that changes both, in the transaction of the event itself, whatever code brings it
about:

==========================================  ===========================================================
event                                       what changes
==========================================  ===========================================================
a share ends, or leads elsewhere            the share's id: only what was handed out for the share ends
an archived database comes back             the generation (its credentials may be in other hands now)
another branch becomes production           the generation of production's databases
a branch is there again, within its grace   the generation of its databases, and the ids of its shares
credentials are revoked                     the generation
==========================================  ===========================================================

``renewals`` counts the changes that a server must get to its logins. ``renewed`` is the last one that it got, and
``told_generation`` the generation of its logins; a reconcile applies the rest. Credentials that are read from the registry
at each request, as tokens are, need no such step.

This module holds the SQL, for a migration; see tokens.py for what asks for it.
"""

from __future__ import annotations

_NOW = "cast((julianday('now') - 2440587.5) * 86400000 as integer)"
_ID = "lower(hex(randomblob(16)))"
_USED = "status <> 'purged'"


def _raised(where: str, why: str) -> str:
    """Raise the generation of databases, and say so in the audit log."""
    return f"""
      insert into event (at, app_id, database_id, action, cause)
        select {_NOW}, app_id, database.id, 'token.revoke-injected', '{why}'
        from database join timeline on timeline.id = timeline_id where {where};
      update database set token_generation = token_generation + 1 where {where};
    """


TRIGGERS = f"""
  create trigger share_begun after insert on share begin
    update database set renewals = renewals + 1 where id = new.database_id;
  end;
  create trigger share_ended after delete on share begin
    update database set renewals = renewals + 1 where id = old.database_id;
  end;
  create trigger share_redirected after update of database_id on share when new.database_id <> old.database_id begin
    update share set id = {_ID} where id = new.id;
    update database set renewals = renewals + 1 where id = old.database_id;
  end;
  create trigger share_replaced after update of id on share when new.id <> old.id begin
    update database set renewals = renewals + 1 where id = new.database_id;
  end;
  create trigger generation_raised after update of token_generation on database
    when new.token_generation <> old.token_generation begin
    update database set renewals = renewals + 1 where id = new.id;
  end;
  create trigger database_recovered after update of intent on database
    when new.intent = 'recover' and old.intent is not 'recover' begin
    {_raised("database.id = new.id", "it was archived until now")}
  end;
  create trigger database_replaced after delete on replacement begin
    update database set renewals = renewals + 1
      where id = old.database_id and exists (select 1 from share where database_id = old.database_id);
  end;
  create trigger production_changed after update of branch on timeline when new.production and new.branch <> old.branch begin
    {_raised(f"timeline_id = new.id and {_USED}", "another branch is production")}
  end;
  create trigger branch_recreated after update of gone_at on timeline
    when old.gone_at is not null and new.gone_at is null and not new.production begin
    {_raised(f"timeline_id = new.id and {_USED} and status <> 'archived'", "its branch was gone")}
    update share set id = {_ID} where timeline_id = new.id;
  end;
"""
