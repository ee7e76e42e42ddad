"""The registry's tables and how they came to be. Each migration and its record are one transaction (sqlite-utils).

sqlite-utils is imported only when a registry is made or brought up to date: it costs 90 ms, and hooks open registries.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing

from provisioner.registry import schema_version
from provisioner.registry.schema import custom_domains, entitlements, operator_hooks, owner_evidence, readiness
from provisioner.registry.schema_version import TooNew
from provisioner.system import failpoints
from provisioner.system.file_lock import locked
from provisioner.system.home import FILE_MODE, Home, relative
from provisioner.system.home_guard import must_be_home
from provisioner.system.identity import Identity, establish, read, record

MIGRATIONS: tuple[tuple[str, str], ...] = (
    (
        "0001_first",
        """
        create table organization (
          id text primary key,
          slug text not null
        ) strict;
        create table instance (
          id text primary key,
          slug text not null,
          engine text not null,
          location text not null,
          created_at integer not null,
          deleted_at integer
        ) strict;
        create unique index instance_slug on instance (slug) where deleted_at is null;
        create table app (
          id text primary key,
          slug text not null,
          git_dir blob not null unique,
          production blob not null,
          grace_ms integer not null,
          retention_ms integer not null,
          created_at integer not null,
          removed_at integer
        ) strict;
        create unique index app_slug on app (slug) where removed_at is null;
        create table assignment (
          id integer primary key,
          app_id text not null references app (id),
          instance_id text not null references instance (id),
          created_at integer not null,
          removed_at integer,
          unique (app_id, instance_id)
        ) strict;
        create table timeline (
          id text primary key,
          app_id text not null references app (id),
          branch blob not null,
          production integer not null,
          revision text not null,
          created_at integer not null,
          gone_at integer,
          rename_mark text not null
        ) strict;
        create unique index timeline_branch on timeline (app_id, branch) where not production;
        create unique index timeline_production on timeline (app_id) where production;
        create table database (
          id text primary key,
          timeline_id text not null references timeline (id),
          instance_id text not null references instance (id),
          name text not null,
          status text not null,
          intent text,
          error text,
          attempts integer not null default 0,
          retry_at integer,
          hold text,
          created_at integer not null,
          connected_at integer,
          archived_at integer,
          purge_at integer
        ) strict;
        create index database_timeline on database (timeline_id);
        create unique index database_live on database (timeline_id, instance_id)
          where status not in ('archived', 'purged');
        create unique index database_name on database (instance_id, name) where status not in ('archived', 'purged');
        create table event (
          id integer primary key,
          at integer not null,
          app_id text,
          timeline text,
          database_id text,
          action text not null,
          cause text not null,
          detail text not null default ''
        ) strict;
        create index event_app on event (app_id, at);
        """,
    ),
    ("0002_timelines_of_an_app", "create index timeline_app on timeline (app_id, branch)"),
    (
        "0003_access",
        """
        create table token (
          id text primary key,
          hash blob not null,
          label text not null,
          scope text not null,
          app_id text references app (id),
          database_id text references database (id),
          read_only integer not null,
          created_at integer not null,
          expires_at integer,
          revoked_at integer
        ) strict;
        alter table assignment add column connect text not null default 'auto';
        alter table database add column token_generation integer not null default 0;
        """,
    ),
    (
        "0004_forks_and_snapshots",
        """
        alter table assignment add column new_branch text not null default 'empty';
        alter table database add column forked_from text;
        alter table database add column forked_at integer;
        alter table database add column fork_version integer;
        create table snapshot (
          id text primary key,
          database_id text not null references database (id),
          label text not null,
          cause text not null,
          revision text not null,
          state text not null,
          version integer,
          size integer,
          created_at integer not null,
          deleted_at integer
        ) strict;
        create index snapshot_database on snapshot (database_id);
        create index snapshot_unfinished on snapshot (state) where state in ('making', 'deleting');
        create table replacement (
          database_id text primary key references database (id),
          action text not null,
          detail text not null,
          kept_as text not null,
          ready integer not null,
          forked_from text,
          forked_at integer,
          fork_version integer,
          begun_at integer not null
        ) strict;
        """,
    ),
    (
        "0005_lives",
        """
        alter table instance add column purge_at integer;
        alter table instance add column backup text;
        alter table app add column expire_ms integer;
        alter table app add column pre_deploy text not null default '';
        alter table app add column pre_deploy_from text not null default '';
        alter table app add column pre_deploy_ms integer not null default 600000;
        alter table app add column snapshot_revisions integer not null default 0;
        alter table assignment add column scrub text not null default '';
        alter table assignment add column scrub_ms integer not null default 600000;
        alter table database add column forked_snapshot text;
        alter table timeline add column preview integer not null default 0;
        alter table timeline add column protected integer not null default 0;
        alter table timeline add column expire_ms integer;
        alter table timeline add column active_at integer not null default 0;
        alter table timeline add column deployed text not null default '';
        alter table timeline add column failure text;
        update timeline set active_at = created_at;
        drop index timeline_branch;
        create unique index timeline_branch on timeline (app_id, preview, branch) where not production;
        create table share (
          timeline_id text not null references timeline (id),
          instance_id text not null references instance (id),
          database_id text not null references database (id),
          created_at integer not null,
          primary key (timeline_id, instance_id)
        ) strict;
        create index share_database on share (database_id);
        create table variable (
          app_id text not null references app (id),
          name text not null,
          context text not null,
          value text not null,
          secret integer not null,
          changed_at integer not null,
          primary key (app_id, name, context)
        ) strict;
        create table run (
          id text primary key,
          timeline_id text not null references timeline (id),
          database_id text references database (id),
          kind text not null,
          revision text not null,
          command text not null,
          state text not null,
          detail text not null default '',
          started_at integer not null,
          ended_at integer
        ) strict;
        create index run_timeline on run (timeline_id);
        create index run_unfinished on run (state) where state = 'running';
        create index event_database on event (database_id, id) where database_id is not null;
        """,
    ),
    ("0006_servers", "alter table instance add column url text not null default ''"),
    ("0007_quorum", "alter table instance add column require_quorum integer not null default 0"),
    (
        "0008_moves",
        """
        alter table instance add column moving_location text not null default '';
        alter table instance add column moving_url text not null default '';
        alter table instance add column moving_quorum integer not null default 0;
        alter table instance add column left_location text not null default '';
        alter table instance add column left_url text not null default '';
        alter table database add column moved integer not null default 0;
        alter table database add column switching integer not null default 0;
        create index database_switching on database (switching) where switching;
        """,
    ),
    (
        # of two databases of a timeline that were named alike, the one on the instance that was assigned first keeps its name
        "0009_names",
        """
        update database set name = substr(name, 1, length(name) - 12) || lower(hex(randomblob(6)))
          where status <> 'purged' and exists (
            select 1 from database as other where other.timeline_id = database.timeline_id
              and other.name = database.name and other.instance_id <> database.instance_id and other.status <> 'purged'
          ) and instance_id <> (
            select instance_id from assignment join timeline on timeline.app_id = assignment.app_id
              where timeline.id = database.timeline_id order by assignment.id limit 1
          );
        create unique index database_named on database (timeline_id, name) where status not in ('archived', 'purged');
        create index database_by_name on database (name);
        """,
    ),
    (
        "0010_few_among_many",
        """
        create index database_unsettled on database (intent) where intent is not null;
        create index database_failed on database (timeline_id) where error is not null;
        """,
    ),
    (
        "0011_commands",
        """
        alter table app add column run_as text not null default '';
        alter table app add column sandbox integer not null default 1;
        alter table app add column unix_sockets integer not null default 0;
        alter table app add column allow_read text not null default '[]';
        alter table app add column allow_write text not null default '[]';
        alter table app add column pre_deploy_copies text not null default 'changed';
        alter table app add column pre_deploy_inputs text not null default '[]';
        alter table app add column max_branches integer not null default 10000;
        alter table app add column checkout_files integer not null default 100000;
        alter table app add column checkout_bytes integer not null default 4000000000;
        alter table timeline add column deployed_by text not null default '';
        """,
    ),
    (
        "0012_allowances",
        """
        alter table instance add column connections integer;
        alter table instance add column temp_bytes integer;
        alter table instance add column statement_ms integer;
        alter table instance add column trusted_extensions text not null default 'default';
        """,
    ),
    (
        "0013_whole_timelines",
        """
        alter table snapshot add column set_id text not null default '';
        alter table replacement add column set_id text not null default '';
        alter table replacement add column deploy integer not null default 1;
        alter table database add column replaced integer not null default 0;
        create index snapshot_set on snapshot (set_id) where set_id <> '';
        """,
    ),
    (
        "0014_relative_locations",
        """
        insert into organization select home_id(), 'default' where not exists (select 1 from organization);
        update instance set location = in_home(location), moving_location = in_home(moving_location),
          left_location = in_home(left_location), backup = in_home(backup);
        """,
    ),
    (
        "0015_lineages",
        """
        alter table timeline add column lineage text not null default '';
        alter table timeline add column doubt text not null default '';
        """,
    ),
    (
        # what older versions have handed out for databases that were shared, or archived in between, ends here
        "0016_entitlements",
        f"""
        alter table share add column id text not null default '';
        update share set id = lower(hex(randomblob(16)));
        create unique index share_id on share (id);
        alter table database add column renewals integer not null default 0;
        alter table database add column renewed integer not null default 0;
        alter table database add column told_generation integer not null default 0;
        update database set told_generation = token_generation;
        update database set token_generation = token_generation + 1, renewals = 1
          where status <> 'purged' and (id in (select database_id from share) or id in (
            select database_id from event where action in ('database.unshare', 'database.recover')
          ));
        create index database_to_renew on database (id) where renewals <> renewed;
        {entitlements.TRIGGERS}
        """,
    ),
    (
        # owner_due: 1, the owner record must be written beside the data; 2, it was written, and may not be on disk yet
        # owner_was: what may be written there until then, one name of a timeline a line
        "0017_owners",
        """
        alter table database add column owner_due integer not null default 2;
        alter table database add column owner_was blob;
        update database set owner_due = iif(status = 'purged', 0, 1);
        create index database_owner_due on database (owner_due) where owner_due = 1;
        create index database_owner_new on database (owner_due) where owner_due = 2;
        create trigger database_owner after update of timeline_id, moved on database
          when old.timeline_id <> new.timeline_id or old.moved <> new.moved
        begin
          update database set owner_due = 1, owner_was = (
            select cast(coalesce(database.owner_was || x'0a', x'')
              || iif(production, 'production', iif(preview, 'preview/', 'git-branch/') || branch) as blob)
            from timeline where timeline.id = old.timeline_id)
          where id = new.id;
        end;
        create trigger timeline_owner after update of branch, production on timeline
          when old.branch <> new.branch or old.production <> new.production
        begin
          update database set owner_due = 1, owner_was = cast(coalesce(owner_was || x'0a', x'')
            || iif(old.production, 'production', iif(old.preview, 'preview/', 'git-branch/') || old.branch) as blob)
          where timeline_id = new.id and status <> 'purged';
        end;
        create trigger app_owner after update of slug, git_dir on app
          when old.slug <> new.slug or old.git_dir <> new.git_dir
        begin
          update database set owner_due = 1
            where status <> 'purged' and timeline_id in (select id from timeline where app_id = new.id);
        end;
        create trigger instance_owner after update of slug on instance when old.slug <> new.slug
        begin
          update database set owner_due = 1 where instance_id = new.id and status <> 'purged';
        end;
        create table app_alias (
          id text primary key,
          app_id text not null references app (id)
        ) strict;
        create trigger home_owner after update of id on organization when old.id <> new.id
        begin
          update database set owner_due = 1 where status <> 'purged';
        end;
        """,
    ),
    (
        "0018_observed_time",
        """
        create table observed_time (
          boot text not null,
          at_ms integer not null,
          total_ms integer not null
        ) strict;
        alter table database add column waits_from integer;
        alter table instance add column waits_from integer;
        create index database_purge on database (purge_at) where purge_at is not null;
        create index database_to_wait on database (id) where purge_at is not null and waits_from is null;
        """,
    ),
    (
        "0019_hosting",
        """
        create table run_command (
          app_id text primary key references app (id),
          command text not null,
          install text not null,
          build text not null,
          directory text not null,
          health text not null,
          idle_ms integer,
          from_repository integer not null,
          public integer not null,
          unfenced integer not null,
          memory_bytes integer not null,
          changed_at integer not null
        ) strict;
        create table hosted_app (
          timeline_id text primary key references timeline (id),
          app_id text not null references app (id),
          label text not null,
          state text not null,
          error text not null,
          active text not null,
          locked text not null,
          unique (app_id, label)
        ) strict;
        create table deployment (
          id text primary key,
          timeline_id text not null references timeline (id),
          revision text not null,
          state text not null,
          error text not null,
          cause text not null,
          port integer,
          created_at integer not null,
          ended_at integer
        ) strict;
        create index deployment_timeline on deployment (timeline_id);
        create index deployment_unfinished on deployment (state) where state in ('building', 'built', 'starting');
        create table deployment_step (
          deployment_id text not null references deployment (id),
          name text not null,
          state text not null,
          error text not null,
          started_at integer not null,
          ended_at integer,
          primary key (deployment_id, name)
        ) strict;
        """,
    ),
    ("0020_events", readiness.MIGRATION),
    (
        "0021_lookups",
        """
        create index database_instance on database (instance_id, timeline_id) where status <> 'purged';
        create index snapshot_revision on snapshot (revision) where cause = 'revision' and state = 'kept';
        """,
    ),
    ("0022_operator_hooks", operator_hooks.MIGRATION),
    (
        "0023_moves",
        """
        create table instance_move (
          instance_id text primary key references instance (id),
          location text not null,
          url text not null,
          require_quorum integer not null
        ) strict;
        create table instance_left (
          instance_id text primary key references instance (id),
          location text not null,
          url text not null
        ) strict;
        insert into instance_move select id, moving_location, moving_url, moving_quorum from instance
          where moving_location <> '';
        insert into instance_left select id, left_location, left_url from instance where left_location <> '';
        alter table instance drop column moving_location;
        alter table instance drop column moving_url;
        alter table instance drop column moving_quorum;
        alter table instance drop column left_location;
        alter table instance drop column left_url;
        """,
    ),
    ("0024_owner_evidence", owner_evidence.MIGRATION),
    ("0025_custom_domains", custom_domains.MIGRATION),
    ("0026_orphaned_domains", custom_domains.ORPHANED),
)


def bring_up_to_date(home: Home, connection: sqlite3.Connection) -> None:
    """Apply the migrations that this registry lacks; a copy of an older registry is kept beside it first."""
    found: int = connection.execute("pragma user_version").fetchone()[0]
    if found == schema_version.VERSION:
        return
    if found > schema_version.VERSION:
        raise TooNew(home.registry, found)
    with locked(os.path.join(home.locks, "migrate.lock"), "the registry"):
        found = connection.execute("pragma user_version").fetchone()[0]
        known = _identified(home, connection, found)
        if 0 < found < schema_version.VERSION:
            _keep_copy(connection, f"{home.registry}.before-{schema_version.VERSION}")
        connection.create_function("home_id", 0, lambda: known.id)
        connection.create_function("in_home", 1, lambda path: path and relative(path, known.path))
        _apply(connection)


def as_up_to_date(home: Home, connection: sqlite3.Connection) -> sqlite3.Connection:
    """What looks at this registry without changing it: the same connection, or of an older registry a copy in memory."""
    found: int = connection.execute("pragma user_version").fetchone()[0]
    if found == schema_version.VERSION:
        return connection
    if found > schema_version.VERSION:
        raise TooNew(home.registry, found)
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with closing(connection):
        connection.backup(copy)
    known, _ = read(home) or (None, "")
    rows = copy.execute("select id from organization").fetchall() if found else []
    home_id = known.id if known is not None else rows[0][0] if rows else ""
    made_at = known.path if known is not None else _made_at(home, copy) if found else home.path
    copy.create_function("home_id", 0, lambda: home_id)
    copy.create_function("in_home", 1, lambda path: path and relative(path, made_at))
    _apply(copy)
    return copy


def _identified(home: Home, connection: sqlite3.Connection, found: int) -> Identity:
    """The home's identity. An older home has none yet, and may be a copy of the one that its registry names."""
    known = read(home)
    if known is not None and known[0] is not None:
        return known[0]
    rows = connection.execute("select id from organization").fetchall() if found else []
    home_id = rows[0][0] if rows else str(uuid.uuid4())
    made_at = _made_at(home, connection) if found else os.path.realpath(home.path)
    if made_at == os.path.realpath(home.path):
        establish(home, home_id)
    else:
        record(home, home_id, made_at, "", known=False)
    must_be_home(home)
    return _identified(home, connection, found)


def _made_at(home: Home, connection: sqlite3.Connection) -> str:
    """The path at which an older home was created: its ``instances`` were recorded with their whole path then."""
    here = os.path.realpath(home.path)
    for (location,) in connection.execute("select location from instance order by created_at").fetchall():
        directory, name = os.path.split(location)
        root: str = os.path.dirname(directory)
        if os.path.basename(directory) != "instances" or not location.startswith("/") or root == here:
            continue
        is_home = os.path.isfile(os.path.join(root, "registry.db"))
        is_here = not os.path.exists(location) and os.path.isdir(os.path.join(here, "instances", name))
        if is_home or is_here:
            return root
    return here


def _apply(connection: sqlite3.Connection) -> None:
    import sqlite_utils

    steps = sqlite_utils.Migrations("registry")
    for name, script in MIGRATIONS:
        steps(name=name)(_step(script))
    failpoints.point("migrate.begun")
    steps.apply(sqlite_utils.Database(connection))
    failpoints.point("migrate.recorded")
    connection.execute(f"pragma user_version = {schema_version.VERSION}")
    connection.commit()


class _step:  # noqa: N801 - stands where a function would
    """One migration as the callable that sqlite-utils runs inside its transaction."""

    __name__ = "step"

    def __init__(self, script: str) -> None:
        self.statements = list(_statements(script))

    def __call__(self, db: object, /) -> None:
        connection: sqlite3.Connection = db.conn  # type: ignore[attr-defined]
        for statement in self.statements:
            connection.execute(statement)
        failpoints.point("migrate.applied")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; those of a trigger belong together."""
    statement = ""
    for part in script.split(";"):
        statement += f"{part};"
        if sqlite3.complete_statement(statement):
            if statement.strip(" \n;"):
                yield statement
            statement = ""


def _keep_copy(connection: sqlite3.Connection, path: str) -> None:
    if os.path.exists(path):
        return
    os.close(os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE))
    copy = sqlite3.connect(path + ".new")
    with copy:
        connection.backup(copy)
    copy.close()
    os.rename(path + ".new", path)
