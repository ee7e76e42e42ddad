"""An app whose branches have databases on a real PostgreSQL server, and what programs see of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from pg_server import PgServer, Row
from support import ok, repository

from provisioner.environment.resolve import Selectors, resolve
from provisioner.system.home import Home, home_directory

Environment = dict[str, str]


def pg_shop(path: Path, pg: PgServer, *branches: str, options: tuple[str, ...] = ("--grace", "0s")) -> Path:
    """A registered repository whose only instance is `main` on the server."""
    repository(path, *branches)
    ok(path, "instance", "add", "main", "--engine", "postgres", "--url", pg.url())
    ok(path, "app", "add", "--name", "shop", *options)
    ok(path, "assign", "main", "shop")
    return path


def environment(repo: Path, branch: str) -> Environment:
    """What an app of the branch is given; asked in this process, for a command takes a hundred times as long."""
    home = Home(home_directory(os.environ))
    return resolve(home, Selectors(branch=branch), os.fsencode(repo), {})[1]


@contextmanager
def connected_to(repo: Path, branch: str) -> Iterator[psycopg.Connection[Row]]:
    """A connection as an app of the branch has it: by its DATABASE_URL."""
    with psycopg.connect(environment(repo, branch)["DATABASE_URL"], autocommit=True) as connection:
        yield connection


def ask(repo: Path, branch: str, statement: str, *arguments: Any) -> list[Row]:
    """The rows of one statement of an app of the branch."""
    with connected_to(repo, branch) as connection:
        cursor = connection.execute(statement.encode(), arguments or None)
        return cursor.fetchall() if cursor.description else []


def mark(repo: Path, branch: str, text: str) -> None:
    ask(repo, branch, "create table if not exists mark (text text)")
    ask(repo, branch, "delete from mark")
    ask(repo, branch, "insert into mark values (%s)", text)


def marked(repo: Path, branch: str) -> str:
    """What `mark` has left there; empty where nothing was."""
    if ask(repo, branch, "select to_regclass('mark')") == [(None,)]:
        return ""
    return "".join(str(row[0]) for row in ask(repo, branch, "select text from mark"))


def left(pg: PgServer) -> set[str]:
    """The databases and roles of ours that there are on the server."""
    databases = pg.ask("select datname from pg_database where datname like 'pv%%'")
    roles = pg.ask("select rolname from pg_roles where rolname like 'pv%%'")
    return {row[0] for row in [*databases, *roles]}


def cleared(pg: PgServer) -> None:
    """Drop what other tests have left there."""
    for name in left(pg):
        if pg.ask("select 1 from pg_database where datname = %s", name):
            pg.ask(f'drop database "{name}" with (force)')
    for name in left(pg):
        pg.ask(f'drop role "{name}"')
