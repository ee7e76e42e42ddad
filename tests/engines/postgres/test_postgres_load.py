"""What is loaded into a PostgreSQL database may come from anywhere: it runs nothing on this machine, and brings no
extension along that the instance does not trust."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from pg_server import PgServer
from pg_world import ask, mark, marked, pg_shop
from support import ok, provisioner

from provisioner.engines.postgres import programs

# What each does is done by whoever loads it, but for the last ones: those the server would do.
ATTACKS = (
    "\\! touch {path}",
    "select 1 \\! touch {path}",
    "select 1; \\! touch {path}",
    "\\copy mark from program 'touch {path}'",
    "\\copy (select 1) to program 'touch {path}'",
    "\\copy (select 1) to '{path}'",
    "\\o {path}",
    "select 1 \\o |touch {path}",
    "select 1 \\g |touch {path}",
    "select 1 \\g {path}",
    "\\w |touch {path}",
    "\\set x `touch {path}`",
    "\\setenv X `touch {path}`",
    "\\echo `touch {path}`",
    "select '\\! touch {path}' \\gexec",
    "\\i {script}",
    "\\ir {script}",
    "\\lo_export 1 {path}",
    "\\if `touch {path}` \\endif",
    "\\s {path}",
    "\\c postgres",
    "\\restrict abc\n\\! touch {path}\n\\unrestrict abc",
    "\\restrict `touch {path}`",
    "create table t (a text);\ncopy t from stdin;\nx\n\\.\n\\! touch {path}",
    "copy (select 1) to program 'touch {path}';",
    "copy (select 1) to '{path}';",
    "do $$ begin execute 'copy (select 1) to program ''touch {path}'''; end $$;",
    "create extension dblink;",
    "do $$ begin execute 'create extension dblink'; end $$;",
    "alter system set archive_command to 'touch {path}';",
    "reset role; create role intruder login;",
    "create event trigger t on ddl_command_start execute function now();",
)


@pytest.fixture
def repo(tmp_path: Path, pg: PgServer) -> Path:
    repo = pg_shop(tmp_path / "shop", pg, "login")
    mark(repo, "login", "login")
    return repo


def loaded(repo: Path, script: str | Path) -> subprocess.CompletedProcess[str]:
    if isinstance(script, str):
        path = repo.parent / "loaded.sql"
        path.write_text(script)
        script = path
    return provisioner(repo, "database", "load", "login", script, "--replace", "--yes")


def test_a_script_runs_nothing_on_this_machine(repo: Path, tmp_path: Path) -> None:
    path, script = tmp_path / "touched", tmp_path / "script.sh"
    os.chmod(tmp_path, 0o777)
    script.write_text(f"\\! touch {path}\n")
    ran, taken = [], []
    for attack in ATTACKS:
        done = loaded(repo, attack.format(path=path, script=script) + "\n")
        if path.exists():
            ran.append(attack)
            path.unlink()
        if done.returncode != 1 or len(done.stderr.splitlines()) != 1:
            taken.append((attack, done.returncode, done.stderr))
    assert ran == []
    assert taken == []
    assert marked(repo, "login") == "login"


def test_the_line_of_a_command_for_psql_is_named(repo: Path) -> None:
    done = loaded(repo, "select 1;\n\n\\! true\n")
    assert "has a psql command in line 3, which provisioner does not run: \\! true" in done.stderr
    done = loaded(repo, "select 1;\nselect\n1/0;\n")
    assert "failed in line 2: division by zero" in done.stderr


SCRIPT = r"""
SET transaction_timeout = 0;
SET standard_conforming_strings = off;
create table words (id int primary key, word text);
insert into words values (1, 'it\'s; here');
SET standard_conforming_strings = on;
insert into words values (2, 'C:\'), (3, E'it\'s; there'), (4, $q$; $$ ' \! $q$);
begin;
create function twice(n int) returns int language sql begin atomic select case when n > 0 then 2 * n end; end;
commit;
create index concurrently on words (word);
copy words (id, word) from stdin;
5	\\! touch; -- a\tb
6	\N
\.
copy words (id, word) from stdin with (format csv);
7,"x
;y"
\.
copy words to stdout;
select setval('seen', 7) from (select 1) as t where false; -- no such sequence is looked at
\restrict aBc9
comment on extension plpgsql is 'not ours to say';
vacuum words;
\unrestrict aBc9
select 1
"""


def test_a_script_is_loaded_as_psql_loads_it(repo: Path, tmp_path: Path, pg: PgServer) -> None:
    script = SCRIPT.replace("select setval('seen', 7) from (select 1) as t where false;", "select 1;")
    assert loaded(repo, script).returncode == 0
    query = "select id, word, twice(id) from words order by id"
    found = ask(repo, "login", query)
    assert [row[1] for row in found] == [
        *("it's; here", "C:\\", "it's; there", "; $$ ' \\! ", "\\! touch; -- a\tb", None, "x\n;y")
    ]
    plain = script.replace("SET transaction_timeout = 0;\n", "") if pg.binaries.parent.name < "17" else script
    with pg.database() as other:
        path = tmp_path / "plain.sql"
        path.write_text(re.sub(r"(?m)^comment on extension.*$", "", plain))
        arguments = (pg.url(other), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", os.devnull, "-f", path)
        subprocess.run([pg.binaries / "psql", *arguments], check=True)
        assert pg.ask(query, database=other) == found


@pytest.mark.parametrize("form", ["custom", "plain"])
@pytest.mark.parametrize("inserts", [False, True])
def test_what_any_pg_dump_writes_is_loaded(
    repo: Path, tmp_path: Path, pg: PgServer, form: str, *, inserts: bool
) -> None:
    """Programs of 2025 and later enclose scripts in \\restrict, and those of 17 begin with a setting of their own."""
    with pg.database() as other:
        statements = (
            "create extension pgcrypto",
            'create schema "odd;\\! name"',
            'create table "odd;\\! name"."t;"(id serial primary key, v text default E\'\\\\;\' check (v <> $$;$$))',
            'insert into "odd;\\! name"."t;"(v) select E\'\\\\! touch\\n\\\\.\\n\' || n from generate_series(1, 3000) n',
            "create function public.f() returns int language plpgsql as 'begin return 1; -- \\! ;\n end'",
            "create view public.v as select ';\\!' as word",
        )
        for statement in statements:
            pg.ask(statement, database=other)
        for program in {programs.programs(13), *programs.packaged()}:
            path = tmp_path / f"{programs.version(program)}"
            if programs.version(program) < pg_version(pg):
                continue
            options = ("--inserts",) if inserts else ()
            words = ("--no-owner", "--no-privileges", f"--format={form}", f"--file={path}", pg.url(other))
            subprocess.run([Path(program) / "pg_dump", *options, *words], check=True)
            done = loaded(repo, path)
            assert done.returncode == 0, (program, done.stderr)
            query = 'select count(*), sum(length(v)) from "odd;\\! name"."t;"'
            assert ask(repo, "login", query) == pg.ask(query, database=other)
            assert ask(repo, "login", "select word, f() from v") == [(";\\!", 1)]


def pg_version(pg: PgServer) -> int:
    return int(str(pg.ask("show server_version_num")[0][0])) // 10000


def dump_with(pg: PgServer, path: Path, form: str, *extensions: str) -> Path:
    """A dump of a database that an administrator has made these extensions in."""
    with pg.database() as other:
        for extension in extensions:
            pg.ask(f'create extension "{extension}" cascade', database=other)
        words = (f"--format={form}", f"--file={path}", pg.url(other))
        subprocess.run([pg.binaries / "pg_dump", *words], check=True)
    return path


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_only_trusted_extensions_are_installed(repo: Path, tmp_path: Path, pg: PgServer, form: str) -> None:
    for extension in ("dblink", "file_fdw", "postgres_fdw"):
        done = loaded(repo, dump_with(pg, tmp_path / extension, form, extension))
        assert done.returncode == 1
        assert f"the extension {extension} is not trusted on the instance main" in done.stderr
    assert marked(repo, "login") == "login"
    assert loaded(repo, dump_with(pg, tmp_path / "usual", form, "pgcrypto", "uuid-ossp")).returncode == 0
    query = "select extname, pg_get_userbyid(extowner) = current_user from pg_extension where extname <> 'plpgsql'"
    assert sorted(ask(repo, "login", query)) == [("pgcrypto", True), ("uuid-ossp", True)]

    ok(repo, "instance", "edit", "main", "--trusted-extensions", "default,dblink")
    assert loaded(repo, dump_with(pg, tmp_path / "more", form, "dblink", "citext")).returncode == 0
    assert sorted(ask(repo, "login", query)) == [("citext", True), ("dblink", False)]
    ok(repo, "instance", "edit", "main", "--trusted-extensions", "none")
    done = loaded(repo, tmp_path / "usual")
    assert "the extension pgcrypto is not trusted" in done.stderr
    assert "--trusted-extensions pgcrypto" in done.stderr


def test_what_a_trusted_extension_requires_has_to_be_trusted_too(repo: Path, tmp_path: Path, pg: PgServer) -> None:
    done = loaded(repo, "create extension earthdistance cascade;")
    assert "the extension earthdistance is not trusted" in done.stderr
    ok(repo, "instance", "edit", "main", "--trusted-extensions", "earthdistance")
    done = loaded(repo, "create extension earthdistance cascade;")
    assert "the extension cube is not trusted" in done.stderr
    assert "--trusted-extensions earthdistance,cube" in done.stderr
    ok(repo, "instance", "edit", "main", "--trusted-extensions", "earthdistance,cube")
    script = 'create schema "Apart"; create extension if not exists EarthDistance with schema "Apart" cascade;'
    assert loaded(repo, script).returncode == 0
    query = (
        "select nspname from pg_extension join pg_namespace n on n.oid = extnamespace where extname = 'earthdistance'"
    )
    assert ask(repo, "login", query) == [("Apart",)]


def test_lists_of_trusted_extensions_that_make_no_sense_are_refused(repo: Path) -> None:
    ok(repo, "instance", "add", "keys")
    for instance, text in (("main", "a;b"), ("main", ""), ("main", "none,dblink"), ("keys", "dblink")):
        assert provisioner(repo, "instance", "edit", instance, "--trusted-extensions", text).returncode == 2
