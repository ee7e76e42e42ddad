"""After a timeline's data was replaced, its migrations run on the new data, or the output says how to run them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import DENO, Done, commit, database_of, events, git, killed, ok, outside, provisioner, shop, until

SCHEMA = '["schema"]'


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """On `login` a migration that production has not got; each run adds a line to `ran`, and fails while `broken` is there."""
    repo = shop(tmp_path / "shop", "login")
    ok(repo, "kv", "set", '["production"]', "1")
    git(repo, "switch", "-q", "login")
    program = "const kv = await Deno.openKv(); await kv.set(['schema'], 2); console.log('migrated');"
    (repo / "migrate.ts").write_text(program)
    at = outside(tmp_path)
    script = f"""\
echo "$DENO_TIMELINE" >> {at}/ran
test ! -e {at}/broken || {{ echo no; exit 1; }}
test ! -e {at}/slow || {{ touch {at}/begun; while test -e {at}/slow; do sleep 0.05; done; }}
{DENO} run -A --quiet --unstable-kv migrate.ts
"""
    (repo / "migrate.sh").write_text(script)
    git(repo, "add", "migrate.ts", "migrate.sh")
    commit(repo, "migrate")
    ok(repo, "app", "set", "--allow-write", at, "--pre-deploy-from", "migrate.sh")
    assert ran(tmp_path) == ["git-branch/login"]
    assert ok(repo, "kv", "get", SCHEMA) == "2\n"
    return repo


def ran(tmp_path: Path) -> list[str]:
    path = outside(tmp_path) / "ran"
    return path.read_text().splitlines() if path.exists() else []


def timeline(repo: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ok(repo, "timeline", "show", "login", "--json"))
    return found


def has_schema(repo: Path) -> bool:
    """Whether what the database holds is migrated; asked of its file, for nobody may be connected to it."""
    path = database_of(repo, "git-branch/login")["path"]
    return '["schema"]' in ok(repo, "database", "dump", path)


@pytest.fixture
def dump(repo: Path, tmp_path: Path) -> str:
    """A dump of production, which is not migrated."""
    path = str(tmp_path / "dump.jsonl")
    ok(repo, "database", "dump", "production", "--output", path)
    return path


def command(repo: Path, dump: str, which: str) -> tuple[str, ...]:
    if which == "restore":
        ok(repo, "database", "reset", "login", "--no-deploy", "--yes")
        ok(repo, "database", "snapshot", "create", "login")
        kept = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))[0]["id"]
        return ("restore", "login", kept)
    return {
        "fork": ("fork", "production"),
        "reset": ("reset",),
        "reset --from": ("reset", "--from", "production"),
        "load": ("load", "login", dump, "--replace"),
    }[which]


CHANGES = ["fork", "reset", "reset --from", "restore", "load"]


@pytest.mark.parametrize("which", CHANGES)
def test_migrations_run_on_the_new_data_and_the_output_says_so(
    repo: Path, tmp_path: Path, dump: str, which: str
) -> None:
    words = command(repo, dump, which)
    before = len(ran(tmp_path))
    done = provisioner(repo, "database", *words, "--yes")
    assert done.returncode == 0, done
    revision = git(repo, "rev-parse", "login").stdout[:12]
    assert f"The pre-deploy command succeeded on git-branch/login at {revision}" in done.stdout
    assert "migrated" in done.stderr
    assert len(ran(tmp_path)) == before + 1
    assert ok(repo, "kv", "get", SCHEMA) == "2\n"
    assert len(ran(tmp_path)) == before + 1
    assert timeline(repo)["status"] == "connected"


@pytest.mark.parametrize("which", CHANGES)
def test_or_they_do_not_and_the_output_says_how_to_run_them(repo: Path, tmp_path: Path, dump: str, which: str) -> None:
    words = command(repo, dump, which)
    before = len(ran(tmp_path))
    said = ok(repo, "database", *words, "--no-deploy", "--yes")
    assert "The pre-deploy command was not run. To run it: provisioner timeline deploy git-branch/login" in said
    assert (len(ran(tmp_path)), has_schema(repo)) == (before, False)
    said = ok(repo, "timeline", "deploy")
    assert "succeeded on git-branch/login" in said
    assert (len(ran(tmp_path)), has_schema(repo)) == (before + 1, True)


def test_without_a_pre_deploy_command_nothing_is_said_of_one(repo: Path) -> None:
    ok(repo, "app", "set", "--no-pre-deploy")
    assert "deploy" not in ok(repo, "database", "reset", "--yes")
    refused = provisioner(repo, "timeline", "deploy")
    assert (refused.returncode, "has no pre-deploy command" in refused.stderr) == (1, True)


def test_a_command_that_fails_leaves_the_new_data_and_keeps_everybody_away(repo: Path, tmp_path: Path) -> None:
    (outside(tmp_path) / "broken").touch()
    failed = provisioner(repo, "database", "fork", "production", "--yes")
    assert failed.returncode == 1
    assert "Forked" in failed.stdout
    assert "The new data stays. Resolve this, then run it again: provisioner timeline deploy" in failed.stderr
    assert provisioner(repo, "exec", "--", "true").returncode == 3
    assert timeline(repo)["pre_deploy"]["state"] == "failed"
    again = provisioner(repo, "timeline", "deploy", "login")
    assert again.returncode == 1
    (outside(tmp_path) / "broken").unlink()
    ok(repo, "timeline", "deploy", "--branch", "login")
    assert ok(repo, "kv", "get", SCHEMA) == "2\n"


@pytest.mark.parametrize("point", ["replace.ready", "replace.moved", "replace.recorded"])
def test_a_command_that_is_killed_has_them_run_by_whoever_comes_next(repo: Path, tmp_path: Path, point: str) -> None:
    killed(repo, point, "database", "fork", "production", "--yes")
    assert len(ran(tmp_path)) == 1
    assert ok(repo, "kv", "get", SCHEMA) == "2\n"
    assert len(ran(tmp_path)) == 2


def test_a_killed_command_that_was_not_to_run_them_does_not(repo: Path, tmp_path: Path) -> None:
    killed(repo, "replace.ready", "database", "fork", "production", "--no-deploy", "--yes")
    ok(repo, "reconcile")
    assert (ok(repo, "exec", "--", "echo", "there"), len(ran(tmp_path)), has_schema(repo)) == ("there\n", 1, False)


def test_what_ran_on_data_that_was_replaced_meanwhile_does_not_count(repo: Path, tmp_path: Path, home: Path) -> None:
    (outside(tmp_path) / "slow").touch()
    deploying = subprocess.Popen(
        ["provisioner", "timeline", "deploy"], cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: (outside(tmp_path) / "begun").exists())
    ok(repo, "database", "fork", "production", "--no-deploy", "--yes")
    (outside(tmp_path) / "slow").unlink()
    deploying.wait(60)
    assert ok(repo, "kv", "get", SCHEMA) == "2\n"
    assert len(ran(tmp_path)) == 3
    assert timeline(repo)["status"] == "connected"
    assert events(home, "database.fork") == ["user"]


def test_a_dump_that_is_merged_is_new_data_too(repo: Path, tmp_path: Path, dump: str) -> None:
    done: Done = provisioner(repo, "database", "load", "login", dump, "--merge", "--yes", "--json")
    assert done.returncode == 0, done
    assert json.loads(done.stdout)["entries"] == 1
    assert "succeeded on git-branch/login" in done.stderr
    assert len(ran(tmp_path)) == 2
