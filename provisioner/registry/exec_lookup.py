"""From a checkout to the databases it is connected to, read straight from the registry; fails closed.

This is what `provisioner exec` waits for, so it opens SQLite the light way and answers one question with one query. It
writes nothing, but has an older registry brought up to date.
"""

from __future__ import annotations

import os

from provisioner.core.connection import ConnectedDatabase, TimelineConnection, parse_location
from provisioner.core.counts import counted
from provisioner.core.errors import Ambiguous, NotReady, NotResolved, StorageFailed
from provisioner.core.naming import BRANCH_PREFIX, PREVIEW_PREFIX, PRODUCTION
from provisioner.core.unconnected import RECONCILE, NotYet, must_be_connected
from provisioner.git.lineage import unchanged
from provisioner.registry import fast_sqlite, schema_version
from provisioner.system.home import FILE_MODE, Home
from provisioner.system.home_guard import must_be_home, must_be_the_home_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sqlite3 import Connection, Cursor, Row
    from typing import Any  # its import costs more than the look-up

    from provisioner.core.ids import AppId, DatabaseId

BUSY_SECONDS = 5.0

_APPS = "select id, slug, production, git_dir from app where removed_at is null and "
_DETACHED = b"detached:"  # what an app of a copied home has for its repository: see core.model.detached
_DATABASES = """
  select organization.id as org_id, organization.slug as org_slug, timeline.revision, timeline.production,
    timeline.deployed, timeline.failure, timeline.lineage, timeline.doubt,
    case when exists (select 1 from share where share.timeline_id = timeline.id) then ''
    else app.pre_deploy || app.pre_deploy_from end as command,
    instance.slug as instance, instance.id as instance_id, instance.engine,
    ifnull(iif(database.moved, instance_move.location, instance.location), '') as location, assignment.connect,
    database.id as database_id, database.name, database.token_generation, database.status, database.error, database.hold,
    database.intent, database.switching, database.owner_due, share.database_id is not null as shared,
    ifnull(share.id, '') as share, iif(share.id is null, database.token_generation <> database.told_generation,
    database.renewals <> database.renewed) as untold
  from timeline join organization join app on app.id = timeline.app_id
  left join assignment on assignment.app_id = timeline.app_id and assignment.removed_at is null
  left join instance on instance.id = assignment.instance_id and instance.deleted_at is null
  left join instance_move on instance_move.instance_id = instance.id
  left join share on share.timeline_id = timeline.id and share.instance_id = instance.id
  left join database on database.id = ifnull(share.database_id, (
    select id from database where timeline_id = timeline.id and instance_id = instance.id and status <> 'purged'
      and hold is not 'orphaned'
    order by status = 'archived', archived_at desc limit 1))
  where timeline.app_id = ? and {where}
  order by assignment.id
"""

_DELETED = """
  select slug, instance.id from instance join assignment on instance_id = instance.id
  where app_id = ? and removed_at is null and deleted_at is not null
    and exists (select 1 from database where instance_id = instance.id and status <> 'purged')
  order by assignment.id limit 1
"""

_LIMIT = """
  select max_branches from app where id = ? and max_branches > 0 and max_branches <= (
    select count(*) from timeline where app_id = app.id and not production and not preview and gone_at is null)
"""

# where a local variable is, it comes last
_VARIABLES = "select name, value from variable where app_id = ? and context in (?, ?) order by context = 'local', name"


class FoundApp:
    __slots__ = ("git_dir", "id", "production", "slug")

    def __init__(self, id: AppId, slug: str, production: bytes, git_dir: bytes) -> None:  # noqa: A002
        self.id = id
        self.slug = slug
        self.production = production
        self.git_dir = git_dir


class Resolver:
    """A read-only look into the registry."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.wary = True  # of refs that may have changed since the last look
        self._db: Any
        if not _has_registry(home):
            raise NotResolved(
                f"no registry in {home.path}",
                "Run 'provisioner init' in the repository, or set PROVISIONER_HOME",
            )
        if not os.access(home.path, os.W_OK | os.X_OK):
            from provisioner.registry.errors import unreachable

            problem = unreachable(home)
            if problem is not None:
                raise _unresolved(problem)
        if os.stat(home.path).st_mode & 0o002:
            raise NotResolved(f"{home.path} is writable by everyone", f"Run: chmod 700 {home.path}")
        self._identity = must_be_home(home)
        try:
            found = self._opened()
        except (fast_sqlite.Error, UnicodeError, OSError) as error:
            found = self._opened_with_the_reserve(error)
        if found > schema_version.VERSION:
            raise _unresolved(schema_version.TooNew(home.registry, found))
        if 0 < found < schema_version.VERSION:
            self._db.close()
            self._db = _up_to_date(home)
            self._identity = must_be_home(home)

    def _opened(self) -> int:
        """Open the registry: its version."""
        if not os.path.lexists(f"{self.home.registry}-shm"):
            from provisioner.system import in_place

            in_place.make(f"{self.home.registry}-shm", FILE_MODE)
        self._db = fast_sqlite.connect(self.home.registry, timeout=BUSY_SECONDS, isolation_level=None)
        found: int = self._db.execute("pragma user_version").fetchone()[0]
        return found

    def _opened_with_the_reserve(self, refused: Exception) -> int:
        """The same after it was refused: on a full disk the home's reserve is given up. Raises NotResolved."""
        from provisioner.registry.home.disk_reserve import Reserve

        if not Reserve(self.home).make_room():
            raise self._failed(refused) from refused
        try:
            return self._opened()
        except (fast_sqlite.Error, UnicodeError, OSError) as error:
            raise self._failed(error) from error

    def app(
        self, *, git_dir: bytes | None = None, slug: str | None = None, app_id: str | None = None
    ) -> FoundApp | None:
        """The registered app with this common directory, this slug or this id."""
        column = "slug" if slug is not None else "id" if app_id is not None else "git_dir"
        rows = self._rows(f"{_APPS}{column} = ?", slug or app_id or git_dir)
        return FoundApp(*rows[0]) if rows else None

    def slugs(self) -> list[str]:
        """The names of all apps."""
        return [row[0] for row in self._rows("select slug from app where removed_at is null")]

    def _nearest(self, app: FoundApp, branch: bytes) -> tuple[str, ...]:
        """The names of branches that are most like this one."""
        from provisioner.core.nearest import nearest

        return nearest(os.fsdecode(branch), self._branches(app))

    def _branches(self, app: FoundApp) -> list[bytes]:
        return [row[0] for row in self._rows("select branch from timeline where app_id = ? and not preview", app.id)]

    def engines(self, app: FoundApp) -> dict[str, str]:
        """The engines of the app's instances by their slugs, the first assigned first."""
        rows = self._rows(
            "select slug, engine from assignment join instance on instance.id = instance_id"
            " where app_id = ? and removed_at is null and deleted_at is null order by assignment.id",
            app.id,
        )
        return dict(rows)

    def connection(
        self,
        app: FoundApp,
        *,
        timeline: bytes | None = None,
        revision: str | None = None,
        local: bool = False,
        deploying: bool = False,
        instance: str | None = None,
    ) -> TimelineConnection:
        """The databases of a timeline named by its raw name, or by the commit it is at (at least 7 hex digits); with
        `instance` only the one on the instance with this slug.

        The variables are those of the timeline's context; with `local`, development's with local ones in their place.
        Raises `NotResolved` where there are none or one of them is not connected, and, but for who is `deploying`, where
        the pre-deploy command has not succeeded for the timeline's revision.
        """
        if revision is not None:
            timeline = self._timeline_at(app, revision)
        assert timeline is not None  # noqa: S101
        shown = os.fsdecode(timeline)
        preview = timeline.startswith(PREVIEW_PREFIX)
        if timeline == PRODUCTION:
            rows = self._named(_DATABASES.format(where="timeline.production"), app.id)
        else:
            branch = timeline.removeprefix(PREVIEW_PREFIX if preview else BRANCH_PREFIX)
            if branch in (timeline, app.production):
                raise NotResolved(f"app {app.slug!r} has no timeline {shown!r}", _LIST)
            where = "timeline.preview = ? and not timeline.production and timeline.branch = ?"
            rows = self._named(_DATABASES.format(where=where), app.id, preview, branch)
        if not rows:
            near = self._nearest(app, branch) if timeline != PRODUCTION and not self.wary else ()
            raise NotYet(f"app {app.slug!r} has no timeline {shown!r}{self._beyond_limit(app)}", _LIST, candidates=near)
        lineage = rows[0]["lineage"]
        of_branch = timeline != PRODUCTION and not preview
        follows = not app.git_dir.startswith(_DETACHED)
        if of_branch and self.wary and follows and not unchanged(app.git_dir, app.id, branch, lineage):
            raise NotYet(f"the branch of timeline {shown!r} may be another one by now", RECONCILE)
        assigned = [row for row in rows if row["instance"] is not None]
        if not assigned:
            lost = self._rows(_DELETED, app.id)
            if lost:
                raise NotReady(
                    f"the database instance {lost[0][0]!r} of app {app.slug!r} was deleted",
                    f"Recover it: provisioner instance recover {lost[0][1]}",
                )
            raise NotResolved(
                f"app {app.slug!r} has no database instance assigned",
                f"Assign one: provisioner assign INSTANCE {app.slug}",
            )
        if instance is not None:
            assigned = _on(instance, assigned, app)
        if (
            self.wary and not lineage and any(row["shared"] for row in assigned)
        ):  # only a look can tell whether it still does
            raise NotYet(f"timeline {shown!r} uses another's database", RECONCILE)
        for row in assigned:
            must_be_connected(
                shown,
                row["instance"],
                row["name"],
                (row["status"], row["error"], row["hold"], row["intent"]),
                row["switching"],
                row["doubt"] and self._names(row["doubt"]),
                untold=bool(row["untold"]),
            )
        row = rows[0]
        must_be_the_home_of(row["org_id"], self.home, self._identity)
        if not deploying:
            self._must_be_deployed(app.id, shown, row)
        context = "production" if row["production"] and not local else "development"
        return TimelineConnection(
            org_id=row["org_id"],
            org_slug=row["org_slug"],
            app_id=app.id,
            app_slug=app.slug,
            timeline=shown,
            production=bool(row["production"]),
            revision=row["revision"],
            context="local" if local else context,
            variables=dict(self._rows(_VARIABLES, app.id, context, "local" if local else context)),
            databases=[
                ConnectedDatabase(
                    instance=row["instance"],
                    instance_id=row["instance_id"],
                    engine=row["engine"],
                    location=parse_location(self.home.absolute(row["location"])),
                    database_id=row["database_id"],
                    database_name=row["name"],
                    connect=row["connect"],
                    generation=row["token_generation"],
                    share=row["share"],
                    timeline="" if row["shared"] or row["owner_due"] == 1 else shown,
                )
                for row in assigned
            ],
        )

    def _beyond_limit(self, app: FoundApp) -> str:
        """What to add where a timeline is missing: new branches may get none."""
        rows = self._rows(_LIMIT, app.id)
        return f", and its limit of {counted(rows[0][0], 'branch')} is reached (app set --max-branches)" if rows else ""

    def _names(self, database_ids: DatabaseId) -> list[str]:
        return [row[0] for row in self._rows("select name from database where instr(?, id)", database_ids)]

    def _must_be_deployed(self, app_id: AppId, timeline: str, row: Row) -> None:
        revision, deployed, failure = row["revision"], row["deployed"], row["failure"]
        if not row["command"]:
            return
        if deployed == revision and self.wary and _stirred(self.home, app_id):
            raise NotYet(f"the refs of timeline {timeline!r} may just have changed", RECONCILE)
        if deployed != revision:
            raise NotYet(
                f"timeline {timeline!r} is waiting for its pre-deploy command at {revision[:12]}",
                f"See: provisioner timeline show {timeline}",
            )
        if failure is not None:
            raise NotReady(
                f"timeline {timeline!r} failed: {failure}",
                f"Push a fix, or run it again: provisioner database fix {timeline}",
            )

    def _timeline_at(self, app: FoundApp, revision: str) -> bytes:
        text = revision.lower()
        if len(text) < 7 or any(char not in "0123456789abcdef" for char in text):
            raise NotResolved(f"{revision!r} is not a revision", "Enter at least 7 hex digits of a commit")
        rows = self._rows(
            "select production, branch, preview from timeline where app_id = ? and revision >= ? and revision < ?"
            " and (exists (select 1 from database where timeline_id = timeline.id"
            " and status not in ('archived', 'purged'))"
            " or exists (select 1 from share where timeline_id = timeline.id))",
            app.id,
            text,
            text + "g",
        )
        if len(rows) > 1:  # a preview is made for its revision, a branch has it for now
            rows = [(production, branch, preview) for production, branch, preview in rows if preview] or rows
        if len(rows) == 1:
            production, branch, preview = rows[0]
            return PRODUCTION if production else (PREVIEW_PREFIX if preview else BRANCH_PREFIX) + branch
        if not rows:
            raise NotYet(f"no timeline of app {app.slug!r} is at revision {revision}", _LIST)
        there = [
            os.fsdecode(app.production if production else branch) for production, branch, preview in rows if not preview
        ]
        raise Ambiguous(
            f"{counted(len(rows), 'timeline')} are at revision {revision}",
            "Choose one: --branch NAME",
            candidates=there,
        )

    def _named(self, query: str, *values: object) -> list[Row]:
        """Rows whose values have the names of their columns."""
        cursor = self._db.cursor()
        cursor.row_factory = fast_sqlite.Row
        return self._asked(cursor, query, values)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._asked(self._db, query, values)

    def _asked(self, source: Connection | Cursor, query: str, values: tuple[object, ...]) -> list[Any]:
        try:
            return source.execute(query, values).fetchall()
        except UnicodeEncodeError:  # a text that is not UTF-8 is in no row
            return self._asked(
                source, query, tuple(_printable(each) if isinstance(each, str) else each for each in values)
            )
        except (fast_sqlite.Error, UnicodeError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StorageFailed:
        from provisioner.registry.errors import refusal

        return _unresolved(refusal(self.home, error))


def _on(instance: str, assigned: list[Row], app: FoundApp) -> list[Row]:
    """The row of the instance that is meant."""
    found = [row for row in assigned if row["instance"] == instance]
    if not found:
        from provisioner.core.nearest import nearest

        slugs = [row["instance"] for row in assigned]
        raise NotResolved(
            f"instance {instance!r} is not assigned to app {app.slug!r}",
            f"Its instances: {', '.join(slugs)}",
            candidates=nearest(instance, slugs),
        )
    return found


def _stirred(home: Home, app_id: AppId) -> bool:
    """Whether there is a wake-up that no process has acted on yet."""
    path = os.path.join(home.inbox, app_id)
    return os.path.exists(path) or os.path.exists(path + ".taken")


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _has_registry(home: Home) -> bool:
    try:
        return home.has_registry()
    except StorageFailed as error:
        raise _unresolved(error) from error


def _up_to_date(home: Home) -> Any:
    """A connection to the registry with the tables that are asked for above, which an older one lacks."""
    from provisioner.registry.tables.connection import Tables, to_look_at
    from provisioner.system.looking import may_change

    try:
        if not may_change():
            return to_look_at(home, BUSY_SECONDS)
        Tables.open(home).close()
        return fast_sqlite.connect(home.registry, timeout=BUSY_SECONDS, isolation_level=None)
    except StorageFailed as error:
        raise _unresolved(error) from error


def _unresolved(problem: StorageFailed) -> StorageFailed:
    problem.exit_code = NotResolved.exit_code
    return problem


_LIST = "List timelines: provisioner timeline list"
