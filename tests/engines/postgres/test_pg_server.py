"""The PostgreSQL server that the tests start."""

from __future__ import annotations

from pg_server import PgServer, pg_running


def test_a_test_gets_a_database_of_its_own(pg: PgServer) -> None:
    with pg.database() as one, pg.database() as other:
        assert one != other
        assert pg.ask("select current_database()", database=one) == [(one,)]
    assert pg.ask("select 1 from pg_database where datname = %s", one) == []


def test_a_server_that_was_killed_starts_again_with_what_it_held() -> None:
    with pg_running(settings={}) as server:
        server.ask("create table t as select 1 as n")
        server.kill()
        assert not server.answers()
        server.start()
        assert server.ask("select n from t") == [(1,)]
