"""Programs as docs/postgres.md has them, each on its branch: pg in Node and in Deno, psycopg in Python, psql."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from counters import BRANCHES, counting, said
from paths import DOCS
from pg_server import PgServer
from support import ok, provisioner, repository, statuses

DOCUMENT = DOCS / "postgres.md"
VISIT = """
create table if not exists visit (at timestamptz default now());
insert into visit default values;
select count(*) from visit;
"""
PROGRAMS = (
    ("node", "main.mjs"),
    ("deno", "run", "-A", "--quiet", "--node-modules-dir=manual", "deno.mjs"),
    ("python", "main.py"),
    ("psql", "-qAtX", "-f", "main.sql"),
)


def written(repo: Path, node_modules: Path) -> None:
    """What the document shows, in files."""
    code = dict(re.findall(r"```(js|python)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL))
    (repo / "main.mjs").write_text(code["js"])
    (repo / "deno.mjs").write_text(code["js"].replace('"pg"', '"npm:pg"'))
    (repo / "main.py").write_text(code["python"])
    (repo / "main.sql").write_text(VISIT)
    (repo / "package.json").write_text(json.dumps({"dependencies": {"pg": "*"}}))
    (repo / "node_modules").symlink_to(node_modules)


@contextmanager
def shop_on(repo: Path, url: str, node_modules: Path) -> Iterator[None]:
    """Without a URL, on a server of its own."""
    repository(repo, *BRANCHES[1:])
    ok(repo, "instance", "add", "main", "--engine", "postgres", *(("--url", url) if url else ()))
    ok(repo, "app", "add", "--name", "shop")
    ok(repo, "assign", "main")
    written(repo, node_modules)
    assert set(statuses(repo).values()) == {"connected"}
    try:
        yield
    finally:
        if not url:
            ok(repo, "instance", "stop", "main")


Programs = list[tuple[str, ...]]


def counted(repo: Path, visitors: dict[str, Programs]) -> None:
    """Each branch counts its own visitors; those of different branches come at once."""
    for turn in range(len(BRANCHES)):
        running = {
            branch: counting(repo, branch, *programs[turn])
            for branch, programs in visitors.items()
            if turn < len(programs)
        }
        assert {branch: said(process) for branch, process in running.items()} == {
            branch: [str(turn + 1)] for branch in running
        }


@pytest.mark.timeout(300)
def test_five_branches_of_a_server_that_is_there_count_their_own_visits(
    tmp_path: Path, pg: PgServer, node_modules: Path
) -> None:
    """The first branch has one visitor, the second two, and so on."""
    repo = tmp_path / "shop"
    with shop_on(repo, pg.url(), node_modules):
        counted(repo, {branch: [*PROGRAMS, PROGRAMS[0]][: number + 1] for number, branch in enumerate(BRANCHES)})
    names = [row["name"] for row in json.loads(ok(repo, "database", "list", "--json"))]
    assert len(set(names)) == len(BRANCHES)
    assert provisioner(repo, "exec", "--branch", "main", "--", "psql", "-c", "drop table visit").returncode == 0
    (last,) = said(counting(repo, "login", *PROGRAMS[3]))
    assert last == "3"


@pytest.mark.timeout(300)
def test_five_branches_of_a_server_of_its_own_count_their_own_visits(tmp_path: Path, node_modules: Path) -> None:
    repo = tmp_path / "shop"
    with shop_on(repo, "", node_modules):
        counted(repo, {branch: [PROGRAMS[number % 4]] * (1 + number % 2) for number, branch in enumerate(BRANCHES)})
