"""Programs as docs/postgres.md has them, each on its branch: pg in Node and in Deno, psycopg in Python, psql."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pg_server import PgServer
from support import ok, provisioner, repository, statuses
from test_connect_clients import BRANCHES, counting, said

DOCUMENT = Path(__file__).parent.parent / "docs" / "postgres.md"
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


@pytest.fixture(params=["a server of its own", "a server that is there"])
def repo(request: pytest.FixtureRequest, tmp_path: Path, pg: PgServer, pg_module: Path) -> Iterator[Path]:
    repo = repository(tmp_path / "shop", *BRANCHES[1:])
    own = request.param == "a server of its own"
    ok(repo, "instance", "add", "main", "--engine", "postgres", *(() if own else ("--url", pg.url())))
    ok(repo, "app", "add", "--name", "shop")
    ok(repo, "assign", "main")
    written(repo, pg_module)
    yield repo
    if own:
        ok(repo, "instance", "stop", "main")


@pytest.mark.timeout(300)
def test_five_branches_count_their_own_visits(repo: Path) -> None:
    """The first branch has one visitor, the second two, and so on; those of different branches come at once."""
    assert set(statuses(repo).values()) == {"connected"}
    visitors = {branch: [*PROGRAMS, PROGRAMS[0]][: number + 1] for number, branch in enumerate(BRANCHES)}
    for turn in range(len(BRANCHES)):
        running = {
            branch: counting(repo, branch, *programs[turn])
            for branch, programs in visitors.items()
            if turn < len(programs)
        }
        assert {branch: said(process) for branch, process in running.items()} == {
            branch: [str(turn + 1)] for branch in running
        }
    names = [row["name"] for row in json.loads(ok(repo, "database", "list", "--json"))]
    assert len(set(names)) == len(BRANCHES)
    assert provisioner(repo, "exec", "--branch", "main", "--", "psql", "-c", "drop table visit").returncode == 0
    (last,) = said(counting(repo, "login", *PROGRAMS[3]))
    assert last == "3"
