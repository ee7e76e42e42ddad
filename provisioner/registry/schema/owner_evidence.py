"""What an owner record has to prove its owner with: the lineage of the branch, the generation of the credentials, and whether
the branch must not get the data. The record beside the data is due whenever one of them changes.

This module holds the SQL, for a migration; `provisioner.registry.home.owners` reads it.
"""

from __future__ import annotations

MIGRATION = """
  update database set owner_due = 1 where status <> 'purged';
  create trigger lineage_owner after update of lineage on timeline when old.lineage <> new.lineage
  begin
    update database set owner_due = 1 where timeline_id = new.id and status <> 'purged';
  end;
  create trigger generation_owner after update of token_generation on database
    when old.token_generation <> new.token_generation and new.owner_due <> 1
  begin
    update database set owner_due = 1 where id = new.id;
  end;
  create trigger hold_owner after update of hold on database
    when (ifnull(old.hold, '') = 'orphaned') <> (ifnull(new.hold, '') = 'orphaned') and new.owner_due <> 1
  begin
    update database set owner_due = 1 where id = new.id;
  end;
"""
