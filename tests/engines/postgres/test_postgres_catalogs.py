"""What the role of a timeline can read of a server's catalogs, which are the same for all databases."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psycopg
from pg_server import PgServer
from pg_world import connected_to, environment, pg_shop
from psycopg import sql
from support import add_branches, database_of, ok

_READABLE = """
  select oid::regclass::text from pg_class where relnamespace = 'pg_catalog'::regnamespace and relkind in ('r', 'v')
    and has_table_privilege(oid, 'select') and relname not in ('pg_statistic', 'pg_stats', 'pg_proc', 'pg_rewrite')
"""


def read(repo: Path, branch: str) -> str:
    """All that a role can read of the catalogs of a server."""
    found = []
    with connected_to(repo, branch) as connection:
        for (name,) in connection.execute(_READABLE).fetchall():
            query = sql.SQL("select whole::text from {} whole").format(sql.SQL(name))
            try:
                found += [str(row[0]) for row in connection.execute(query)]
            except psycopg.Error:
                continue
    return "\n".join(found)


def test_no_role_reads_the_names_of_apps_and_branches(tmp_path: Path, pg: PgServer) -> None:
    repo = pg_shop(tmp_path / "shop", pg, "login", "takeover-of-acme")
    ok(repo, "app", "set", "--name", "secretshop")
    ok(repo, "database", "snapshot", "create", "takeover-of-acme")
    named = database_of(repo, "git-branch/takeover-of-acme")["name"]
    ok(repo, "database", "archive", named, "--yes")
    ok(repo, "database", "recover", named)
    told = read(repo, "login")
    own = environment(repo, "login")["PGDATABASE"]
    assert own in told
    assert "git-branch/login" in ok(repo, "database", "show", own)
    assert "takeover" not in told
    assert "secretshop" not in told


def test_names_that_an_older_version_has_left_on_a_server_go(tmp_path: Path, pg: PgServer) -> None:
    repo = pg_shop(tmp_path / "shop", pg, "login", "takeover-of-acme")
    named = environment(repo, "takeover-of-acme")["PGDATABASE"]
    with closing(pg.connect()) as admin:
        admin.execute(f'comment on database "{named}" is $$shop--takeover-of-acme-0123456789$$')
        admin.execute("comment on database postgres is 'takeover: somebody else has said this'")
    add_branches(repo, "later")
    ok(repo, "reconcile")
    told = read(repo, "login")
    assert "shop--takeover" not in told
    assert "somebody else has said this" in told
    with closing(pg.connect()) as admin:
        admin.execute("comment on database postgres is 'default administrative connection database'")
