"""What is told of servers that cannot be used, and of databases that are not as they should be."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

from pg_server import PgServer, account, pg_running
from pg_world import connected_to, environment, left, mark, marked, pg_shop
from support import database_of, ok, provisioner, statuses

from provisioner.core.ids import DatabaseId
from provisioner.engines.catalog import engine_of
from provisioner.engines.postgres import names
from provisioner.registry.store import Registry
from provisioner.system.home import Home

SECRET = "hush-hush"


def refused(cwd: Path, url: str, *options: str) -> str:
    done = provisioner(cwd, "instance", "add", "main", "--engine", "postgres", "--url", url, *options)
    assert done.returncode == 1
    assert done.stdout == ""
    assert SECRET not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_why_a_server_cannot_be_linked(tmp_path: Path, pg: PgServer) -> None:
    assert "no DNS server knows that host" in refused(tmp_path, f"postgresql://admin:{SECRET}@nowhere.invalid/postgres")
    told = refused(tmp_path, f"postgresql://admin:{SECRET}@127.0.0.1:1/postgres")
    assert "nothing listens there" in told
    assert told.endswith("Then run: the same command again\n")
    assert "does not accept this user and password" in refused(tmp_path, pg.url(password=SECRET))
    told = refused(tmp_path, pg.url(), "--sslmode", "require")
    assert "offers no TLS" in told
    assert told.endswith("or say: the same command again, with --sslmode disable\n")
    assert 'database "nothing" does not exist' in refused(tmp_path, pg.url(database="nothing"))
    pg.ask(f"create role humble login password '{SECRET}'; grant connect on database postgres to humble")
    try:
        told = refused(tmp_path, pg.url(user="humble", password=SECRET))
        assert "humble lacks CREATEDB and CREATEROLE" in told
        assert "ALTER ROLE humble CREATEDB CREATEROLE" in told
    finally:
        pg.ask("drop owned by humble; drop role humble")
    for url, words in (
        ("mysql://a:b@c/d", "not a URL"),
        ("postgresql://h/d", "needs an administrator's name"),
        (pg.url(), "no file"),
    ):
        done = provisioner(
            tmp_path, "instance", "add", "main", "--engine", "postgres", "--url", url, "--ca-cert", "/no/such"
        )
        assert done.returncode == 2
        assert words in done.stderr or "no file" in done.stderr
    assert json.loads(ok(tmp_path, "instance", "list", "--json")) == []


def test_a_server_is_checked_by_its_certificate(tmp_path: Path) -> None:
    with pg_running() as server:
        certificate, key = server.directory / "cert.pem", server.directory / "key.pem"
        names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
        )
        ca = tmp_path / "ca.pem"
        ca.write_bytes(certificate.read_bytes())
        if (name := account()) is not None:
            subprocess.run(["chown", name, str(certificate), str(key)], check=True)
        key.chmod(0o600)
        server.stop()
        server.settings = {**server.settings, "ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        server.start()
        by_name = server.url().replace("127.0.0.1", "localhost")
        told = refused(tmp_path, server.url(), "--ca-cert", str(ca))
        assert "cannot be trusted by TLS" in told  # it is not the certificate's name
        repo = tmp_path / "shop"
        ok(tmp_path, "instance", "add", "main", "--engine", "postgres", "--url", by_name, "--ca-cert", str(ca))
        subprocess.run(["git", "init", "-q", str(repo)], check=True)
        subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "first"], cwd=repo, check=True)
        ok(repo, "app", "add", "--name", "shop")
        ok(repo, "assign", "main", "shop")
        given = environment(repo, "main")
        assert given["PGSSLMODE"] == "verify-full"
        assert given["PGSSLROOTCERT"] == str(ca)
        query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        assert ok(repo, "exec", "--", "psql", "-Atc", query) == "t\n"
        assert ok(repo, "exec", "--", "sh", "-c", f'psql "$DATABASE_URL" -Atc "{query}"') == "t\n"


def test_a_linked_server_is_looked_at_again(tmp_path: Path) -> None:
    with pg_running() as server:
        server.ask("create role pvera login")  # somebody, whose name only begins as those of our roles
        repo = pg_shop(tmp_path / "shop", server)
        assert server.ask("select has_database_privilege('pvera', 'postgres', 'connect')") == [(True,)]
        mark(repo, "main", "here")
        server.ask("grant connect on database postgres to public")
        done = provisioner(repo, "instance", "test", "main")
        assert done.returncode == 1
        assert 'REVOKE CONNECT ON DATABASE "postgres" FROM PUBLIC' in done.stdout
        server.ask("revoke connect on database postgres from public")
        ok(repo, "instance", "test", "main")
        server.ask("alter role admin password 'another-one'")
        assert "does not accept this user and password" in provisioner(repo, "instance", "test", "main").stdout
        server.password = "another-one"
        ok(repo, "instance", "edit", "main", "--url", server.url())
        ok(repo, "instance", "test", "main")
        server.stop()
        assert "nothing listens there" in provisioner(repo, "instance", "test", "main").stdout
        assert provisioner(repo, "status").returncode == 0
        done = provisioner(repo, "doctor")
        assert "nothing listens there" in done.stdout
        server.start()
        ok(repo, "database", "fix", "--all")
        assert statuses(repo) == {"production": "connected"}
        assert marked(repo, "main") == "here"


def test_what_is_lost_is_not_replaced_by_an_empty_one(tmp_path: Path, pg: PgServer) -> None:
    repo = pg_shop(tmp_path / "shop", pg, "login")
    name = environment(repo, "login")["PGDATABASE"]
    pg.ask(f'drop database "{name}"')
    done = provisioner(repo, "database", "fix", "--all")
    assert done.returncode == 1
    found = database_of(repo, "git-branch/login")
    assert found["status"] == "error"
    assert "its data is missing" in found["error"]
    assert provisioner(repo, "exec", "--branch", "login", "--", "true").returncode == 3
    ok(repo, "database", "reset", "login", "--yes")
    assert statuses(repo)["git-branch/login"] == "connected"
    mark(repo, "login", "anew")


def test_a_role_that_was_changed_is_mended(tmp_path: Path, pg: PgServer) -> None:
    repo = pg_shop(tmp_path / "shop", pg, "login")
    role = environment(repo, "login")["PGUSER"]
    pg.ask(f'alter role "{role}" nologin')
    ok(repo, "database", "fix", "--all")
    with connected_to(repo, "login"):
        pass


def test_an_administrator_needs_not_to_be_a_superuser(tmp_path: Path, pg: PgServer) -> None:
    pg.ask(f"create role manager login createdb createrole password '{SECRET}'")
    pg.ask("grant connect on database postgres to manager")
    repo = tmp_path / "shop"
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    subprocess.run(["git", "commit", "-q", "--allow-empty", "-m", "first"], cwd=repo, check=True)
    subprocess.run(["git", "branch", "login"], cwd=repo, check=True)
    ok(repo, "instance", "add", "main", "--engine", "postgres", "--url", pg.url(user="manager", password=SECRET))
    ok(repo, "app", "add", "--name", "shop", "--grace", "0s", "--retention", "0s")
    ok(repo, "assign", "main", "shop")
    mark(repo, "main", "main")
    mark(repo, "login", "login")
    ok(repo, "database", "fork", "production", "login", "--yes")
    with connected_to(repo, "main"):
        ok(repo, "database", "fork", "production", "login", "--yes")
    assert marked(repo, "login") == "main"
    with connected_to(repo, "login"):
        ok(repo, "database", "reset", "login", "--yes")
    assert marked(repo, "login") == ""
    subprocess.run(["git", "branch", "-q", "-D", "login"], cwd=repo, check=True)
    ok(repo, "reconcile")
    ok(repo, "reconcile")
    assert statuses(repo) == {"production": "connected"}


MADE = {
    "a domain": "create domain price as numeric check (value > 0)",
    "an enumeration": "create type color as enum ('red')",
    "a range": "create type span as range (subtype = float8)",
    "a search configuration": "create text search configuration mine (copy = simple)",
    "a large object": "select lo_from_bytea(0, 'kept')",
}


def test_an_unknown_database_with_anything_in_it_is_nobodys_to_drop(tmp_path: Path, home: Path, pg: PgServer) -> None:
    pg_shop(tmp_path / "shop", pg)
    with Registry.open(Home(str(home))) as registry:
        (instance,) = registry.instances()
        unknown = {names.live(instance.id, DatabaseId(str(uuid.uuid4()))): made for made in ["", *MADE.values()]}
        for name, made in unknown.items():
            pg.create_closed(name)
            if made:
                pg.ask(made, database=name)
        told = engine_of(instance).sweep(instance, lambda: registry.database_ids(instance.id))
    _, *others = unknown
    assert sorted(told) == sorted(f"{name} on postgresql://127.0.0.1:{pg.port}" for name in others)
    assert left(pg) & set(unknown) == set(others)
    for name in others:
        pg.ask(f'drop database "{name}"')
