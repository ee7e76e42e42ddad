"""What was only needed for a while is gone afterwards, also where whoever needed it was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pg_server import PgServer
from pg_world import mark, marked, pg_shop
from support import add_branches, killed, ok, shop

from provisioner.core.errors import StorageFailed
from provisioner.system import temp_dirs
from provisioner.system.home import Home

HOLDER = """
import sys
from provisioner.system import temp_dirs as scratch
from provisioner.system.home import Home
with scratch.directory(Home(sys.argv[1])) as directory:
    open(directory + "/secret", "w").close()
    print(directory, flush=True)
    sys.stdin.read()
"""


def left(home: Path) -> set[str]:
    return {path.name for path in (home / "work").glob("*")}


def test_one_goes_when_its_process_is_gone_and_not_before(tmp_path: Path, home: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    command = [sys.executable, "-c", HOLDER, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        name = os.path.basename(holder.stdout.readline().strip())
        ok(repo, "reconcile")
        with temp_dirs.directory(Home(str(home))) as mine:
            assert left(home) == {name, os.path.basename(mine)}
        assert (home / "work" / name / "secret").exists()
        holder.kill()
    assert left(home) == {name}
    ok(repo, "reconcile")
    assert left(home) == set()
    with pytest.raises(ZeroDivisionError), temp_dirs.directory(Home(str(home))):
        raise ZeroDivisionError
    assert left(home) == set()


def test_where_none_can_be_made_it_is_said(home: Path) -> None:
    Home(str(home)).create()
    (home / "work").write_text("")
    with pytest.raises(StorageFailed, match="cannot write to"), temp_dirs.directory(Home(str(home))):
        pass


def test_a_dump_that_was_cut_off_is_not_kept(tmp_path: Path, home: Path, pg: PgServer) -> None:
    repo = pg_shop(tmp_path / "shop", pg)
    mark(repo, "main", "secret")
    add_branches(repo, "copy")
    ok(repo, "reconcile")
    with pg.connect(database=ok(repo, "exec", "--", "printenv", "PGDATABASE").strip()):
        killed(repo, "postgres.copied", "database", "fork", "production", "copy", "--yes")
        assert left(home)
        ok(repo, "reconcile")
    assert left(home) == set()
    assert marked(repo, "copy") == ""
