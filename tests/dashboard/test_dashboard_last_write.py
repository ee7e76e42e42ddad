"""Looking at a database is no write: what the dashboard says of the last one stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from dashboard_world import visited
from support import database_of, ok, provisioner, rows, shop

from provisioner.kv.codec.key import encode

PAST = 1_600_000_000
WRITTEN = "2020-09-13T12:26:40"
WRITES = """
import os, sys
from provisioner.kv import open_kv
kv = open_kv(sys.argv[1])
kv.set(("a",), 1)
if sys.argv[2] == "killed":
    os._exit(0)
kv.close()
"""
PAGES = (
    "",
    "/keys",
    "/keys?as=list",
    f"/entry?key={encode(('a',)).hex()}",
    f"/edit?key={encode(('a',)).hex()}",
    "/copies",
)


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_looking_at_a_database_leaves_its_last_write_what_it_was(home: Path, tmp_path: Path, end: str) -> None:
    repo = shop(tmp_path / "shop", "login")
    database = database_of(repo, "git-branch/login")
    subprocess.run([sys.executable, "-c", WRITES, database["path"], end], check=True)
    log = Path(database["path"] + "-wal")
    assert log.exists() == (end == "killed")
    for file in (Path(database["path"]), log):
        if file.exists():
            os.utime(file, (PAST, PAST))
    with visited(home) as (_, visitor):
        for page in PAGES:
            assert visitor.get(f"/databases/{database['id']}{page}").status == 200, page
        assert WRITTEN in visitor.get(f"/databases/{database['id']}").text
        assert WRITTEN in visitor.get("/instances/default").text
    assert database_of(repo, "git-branch/login")["written_at"].startswith(WRITTEN)
    ok(repo, "kv", "list", "--branch", "login")
    ok(repo, "database", "dump", database["id"], "--output", str(tmp_path / "dump"))
    provisioner(repo, "doctor")
    assert database_of(repo, "git-branch/login")["written_at"].startswith(WRITTEN)
    ok(repo, "database", "archive", "--yes", database["id"])
    assert next(row for row in rows(repo) if row["id"] == database["id"])["written_at"].startswith(WRITTEN)


def test_a_write_of_an_app_is_its_last_write(home: Path, tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    database = database_of(repo, "git-branch/login")
    os.utime(database["path"], (PAST - 10**8, PAST - 10**8))
    before = database["written_at"]
    subprocess.run([sys.executable, "-c", WRITES, database["path"], "closed"], check=True)
    assert database_of(repo, "git-branch/login")["written_at"] >= before
