"""Another user's program listens where a PostgreSQL server did, and asks for passwords in clear text."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import psycopg
import pytest
from pg_server import PgServer, pg_running
from pg_thief import ASKS, stealing
from pg_world import environment, mark, marked, pg_shop
from support import add_branches, database_of, ok, provisioner, repository, statuses

from provisioner.engines.postgres import programs
from provisioner.engines.protocol import location


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = repository(tmp_path / "shop", "login")
    ok(repo, "instance", "add", "main", "--engine", "postgres")
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s")
    ok(repo, "assign", "main", "shop")
    mark(repo, "login", "here")
    return repo


@pytest.mark.parametrize("ask", ASKS)
def test_no_command_gives_a_password_to_who_has_taken_the_port_of_a_server_that_was_stopped(
    repo: Path, ask: str
) -> None:
    before = environment(repo, "login")
    for words in (
        ("exec", "--branch", "login", "--", "psql", "-Atc", "select text from mark"),
        ("reconcile",),
        ("database", "dump", "login", "--output", "login.dump"),
        ("database", "snapshot", "create", "login"),
        ("token", "revoke", "--database", database_of(repo, "git-branch/login")["name"]),
        ("instance", "test", "main"),
        ("doctor",),
    ):
        ok(repo, "instance", "stop", "main")
        add_branches(repo, f"after-{words[0]}-{words[1] if len(words) > 1 else ''}")
        port = int((Path(os.environ["PROVISIONER_HOME"]) / "instances/main/port").read_text())
        with stealing(port, ask) as thief:
            done = provisioner(repo, *words)
            assert [word for word in thief.heard() if word != "came"] == [], words
        assert done.returncode == 0 or words == ("doctor",), (words, done.stdout, done.stderr)
        if words[0] == "exec":
            assert done.stdout == "here\n"
            assert f"another program has taken port {port}" in done.stderr
    assert marked(repo, "login") == "here"
    assert environment(repo, "login")["PGPORT"] != before["PGPORT"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start another user's program")
def test_only_its_owners_listener_is_taken_for_a_server_whose_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 20)
    (directory / "data").mkdir(parents=True)
    assert location.socket_directory(str(directory)) == ""
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        (directory / "port").write_text(str(port))
        assert location.listens(str(directory))
    with stealing(port, "clear"):
        assert not location.listens(str(directory))
    assert not location.listens(str(directory))


@pytest.mark.parametrize("ask", ASKS)
def test_clients_of_libpq_refuse_it_with_the_settings_that_they_have(repo: Path, ask: str) -> None:
    given = environment(repo, "login")
    ok(repo, "instance", "stop", "main")
    psql = os.path.join(programs.packaged()[0], "psql")
    environ = {**os.environ, **given}
    with stealing(int(given["PGPORT"]), ask) as thief:
        done = subprocess.run([psql, "-w", "-c", "select 1"], env=environ, capture_output=True, text=True, check=False)
        code = f"import psycopg; psycopg.connect({given['DATABASE_URL']!r})"
        again = subprocess.run(["python", "-c", code], env=environ, capture_output=True, text=True, check=False)
        heard = thief.heard()
    assert heard == ["came", "came"], (heard, done.stderr, again.stderr)
    assert "scram-sha-256" in done.stderr
    assert "scram-sha-256" in again.stderr


@pytest.mark.parametrize("ask", ASKS)
def test_no_command_gives_a_password_to_who_has_taken_the_port_of_a_server_that_was_linked(
    tmp_path: Path, ask: str
) -> None:
    with pg_running() as server:
        repo = pg_shop(tmp_path / "shop", server, "login")
        server.stop()
        add_branches(repo, "later")
        with stealing(server.port, ask) as thief:
            for words in (
                ("token", "revoke", "--database", database_of(repo, "git-branch/login")["name"]),
                ("database", "dump", "login", "--output", "x.dump"),
                ("instance", "test", "main"),
                ("reconcile",),
            ):
                done = provisioner(repo, *words)
                assert done.returncode == 1, words
                assert "another way than SCRAM" in done.stdout + done.stderr, (words, done.stdout, done.stderr)
            assert set(thief.heard()) == {"came"}
        server.start()
        ok(repo, "database", "fix", "--all")
        assert set(statuses(repo).values()) == {"connected"}


def test_a_server_that_takes_passwords_in_clear_text_is_linked_where_its_url_says_so(
    tmp_path: Path, pg: PgServer
) -> None:
    """LDAP, PAM and the tokens of cloud providers work so."""
    with pg_running() as server:
        lines = (server.data / "pg_hba.conf").read_text()
        (server.data / "pg_hba.conf").write_text(lines.replace("scram-sha-256", "password"))
        server.ask("select pg_reload_conf()")
        done = provisioner(tmp_path, "instance", "add", "main", "--engine", "postgres", "--url", server.url())
        assert done.returncode == 1
        assert "require_auth=password" in done.stderr
        url = f"{server.url()}?require_auth=password"
        ok(tmp_path, "instance", "add", "main", "--engine", "postgres", "--url", url)
        repo = repository(tmp_path / "shop")
        ok(repo, "app", "add", "--name", "shop")
        ok(repo, "assign", "main", "shop")
        given = environment(repo, "main")
        assert given["PGREQUIREAUTH"] == "password"
        assert "require_auth" not in given["DATABASE_URL"]
        with psycopg.connect(given["DATABASE_URL"]) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        assert ok(repo, "exec", "--", "psql", "-Atc", "select 1") == "1\n"
