"""What the role of a database may use of a server, so that there is some left for the others.

PostgreSQL keeps a role to its connections and temporary files; a role cannot raise these. It can raise the time that its own
statements and idle transactions may take: an operator has the daemon end them, see `end_overlong`. What
postgresql.conf limits more strictly stays so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from provisioner.core.allowance import Allowance
from provisioner.core.model import Instance
from provisioner.engines.postgres import names
from provisioner.engines.postgres.roles import Statement, named
from provisioner.engines.postgres.session import Session
from provisioner.engines.protocol.engine import UsageLimits

USUAL_PART = 2  # of the server's connections: one in so many
FEWEST_CONNECTIONS = 5
USUAL_TEMP_BYTES = 10_000_000_000
USUAL_STATEMENT_MS = 24 * 3_600_000

_TEMP = "temp_file_limit"
_TIMEOUTS = ("statement_timeout", "idle_in_transaction_session_timeout")
_OURS = "us"  # the unit that we give times in, and people do not: what a role has set for itself stays


@dataclass(frozen=True, slots=True)
class RoleLimits:
    """`connections` is -1 where there is no limit. `temp` and `timeout` are as PostgreSQL has them, None where nothing is to be
    set. `limits_temp`: the administrator may limit temporary files."""

    connections: int
    temp: str | None
    timeout: str | None
    limits_temp: bool

    def settings(self) -> dict[str, str | None]:
        temp = {_TEMP: self.temp} if self.limits_temp else {}
        return temp | dict.fromkeys(_TIMEOUTS, self.timeout)


def of(session: Session, allowance: Allowance) -> RoleLimits:
    """What an allowance comes to on this server."""
    row = session.execute(_SERVER).fetchone()
    assert row is not None  # noqa: S101
    usable, temp_kb, statement_ms, superuser = row
    limits_temp = superuser or _has_privilege(session)
    connections = (
        max(usable // USUAL_PART, FEWEST_CONNECTIONS) if allowance.connections is None else allowance.connections
    )
    wanted_kb = _usual(allowance.temp_bytes, USUAL_TEMP_BYTES) // 1024
    wanted_ms = _usual(allowance.statement_ms, USUAL_STATEMENT_MS)
    return RoleLimits(
        connections or -1,
        None if not wanted_kb or 0 <= temp_kb <= wanted_kb else f"{wanted_kb}kB",
        None if not wanted_ms or 0 < statement_ms <= wanted_ms else f"{wanted_ms * 1000}{_OURS}",
        limits_temp,
    )


def statements(role: str, limits: RoleLimits, known: Iterable[str] = ()) -> list[Statement]:
    """What gives a role these limits, which has the settings `known`, each ``name=value``."""
    found = [sql.SQL("alter role {} connection limit {}").format(named(role), limits.connections)]
    there = dict(setting.split("=", 1) for setting in known)
    for name, value in limits.settings().items():
        now = there.get(name)
        if now == value or (name in _TIMEOUTS and now is not None and not now.endswith(_OURS)):
            continue
        words = "alter role {} reset {}" if value is None else "alter role {} set {} to {}"
        parts = [named(role), sql.SQL(name), *([] if value is None else [sql.Literal(value)])]
        found.append(sql.SQL(words).format(*parts))
    return list(found)


def imposed(session: Session, instance: Instance, role: str) -> list[Statement]:
    """What gives a role that there may be already the limits of an instance."""
    rows = session.execute("select rolconfig from pg_roles where rolname = %s", (role,)).fetchall()
    return statements(role, of(session, instance.allowance), (rows[0][0] if rows else None) or ())


def unlimited(session: Session, instance: Instance, limits: RoleLimits) -> list[tuple[str, list[str]]]:
    """The roles of an instance's databases that have other limits, with their settings."""
    starts = [f"{kind}_{instance.id[:8]}_" for kind in (names.LIVE, names.SPARE, names.SHARER)]
    ours = f"^({'|'.join(_TIMEOUTS)})=[0-9]+{_OURS}$" + (f"|^{_TEMP}=" if limits.limits_temp else "")
    wanted = sorted(f"{name}={value}" for name, value in limits.settings().items() if value is not None)
    values = {"starts": starts, "most": limits.connections, "ours": ours, "wanted": wanted}
    rows = session.execute(_DEVIATING, values)
    return [(str(role), settings or []) for role, settings in rows.fetchall()]


def shown(session: Session, allowance: Allowance) -> UsageLimits:
    """The limits for people."""
    limits = of(session, allowance)
    note = "" if limits.limits_temp else _note(session)
    temp = None if limits.temp is None or note else int(limits.temp.removesuffix("kB")) * 1024
    timeout = None if limits.timeout is None else int(limits.timeout.removesuffix(_OURS)) // 1000
    return UsageLimits(None if limits.connections < 0 else limits.connections, temp, timeout, note)


def end_overlong(session: Session, instance: Instance) -> list[str]:
    """End sessions whose statement, or whose idle transaction, lasts longer than the instance allows: a line on each."""
    longest = _usual(instance.allowance.statement_ms, USUAL_STATEMENT_MS)
    if not longest:
        return []
    starts = [f"{kind}_{instance.id[:8]}_" for kind in (names.LIVE, names.SHARER)]
    rows = session.execute(_END_OVERLONG, {"starts": starts, "seconds": longest / 1000})
    return [f"ended a session of {role}, {state} for {seconds:.0f} s" for role, state, seconds, _ in rows.fetchall()]


def _usual(value: int | None, usual: int) -> int:
    return usual if value is None else value


def _has_privilege(session: Session) -> bool:
    if session.info.server_version < 150000:
        return False
    row = session.execute("select has_parameter_privilege(current_user, %s, 'set')", (_TEMP,)).fetchone()
    return row is not None and bool(row[0])


def _note(session: Session) -> str:
    user = session.info.user
    if session.info.server_version < 150000:
        return f"temporary files have no limit, because {user} is not a superuser"
    return f"temporary files have no limit. As a superuser run: GRANT SET ON PARAMETER {_TEMP} TO {user}"


_SERVER = f"""
  select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
      - coalesce(current_setting('reserved_connections', true)::int, 0),
    (select reset_val::bigint from pg_settings where name = '{_TEMP}'),
    (select reset_val::bigint from pg_settings where name = '{_TIMEOUTS[0]}'),
    (select rolsuper from pg_roles where rolname = current_user)
"""  # noqa: S608
_DEVIATING = """
  select rolname, rolconfig from pg_roles
  where exists (select from unnest(%(starts)s::text[]) start where starts_with(rolname, start))
    and (rolconnlimit <> %(most)s
      or array(select setting from unnest(rolconfig) setting where setting ~ %(ours)s order by 1) <> %(wanted)s::text[])
"""
# Materialized: PostgreSQL may ask conditions in any order, and ending a session must not be one of them.
_END_OVERLONG = """
  with overlong as materialized (
    select pid, usename, state, extract(epoch from clock_timestamp() -
      case state when 'active' then query_start else state_change end) as seconds
    from pg_stat_activity
    where exists (select from unnest(%(starts)s::text[]) start where starts_with(usename, start))
      and backend_type = 'client backend' and (state = 'active' or starts_with(state, 'idle in transaction'))
      and case state when 'active' then query_start else state_change end
        < clock_timestamp() - make_interval(secs => %(seconds)s)
  )
  select usename, state, seconds, pg_terminate_backend(pid) from overlong
"""
