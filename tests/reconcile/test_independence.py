"""A timeline that fails makes no other one fail, nor another app: whatever fails, and at whichever step."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty_engine import faulty
from pg_server import PgServer
from pg_world import pg_shop
from support import add_branches, daemon, git, ok, provisioner, repository, shop, statuses, until

from provisioner.cli import main as command_line
from provisioner.core.errors import StorageFailed

OTHERS = ("apple", "melon", "plum", "walnut")
VICTIM = "cherry"
FAULTS: dict[str, Callable[[], Exception]] = {
    "its own": lambda: StorageFailed("the disk is on fire"),
    "the system's": lambda: OSError(5, "the disk is on fire"),
    "SQLite's": lambda: sqlite3.OperationalError("the disk is on fire"),
    "one that nobody expects": lambda: RuntimeError("the disk is on fire"),
}
STEPS = ("ensure", "find", "claims", "record_owners", "archive", "purge", "problems", "renew", "lost")
OF_ALL = ("find", "claims")
"""What raises StorageFailed here says that the instance cannot be asked."""


@pytest.fixture(params=["deno-kv", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def repo(request: pytest.FixtureRequest, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    options = ("--grace", "0s", "--retention", "0s")
    if engine == "deno-kv":
        made = shop(tmp_path / "shop", options=options)
    else:
        pg: PgServer = request.getfixturevalue("pg")
        made = pg_shop(tmp_path / "shop", pg, options=options)
        ok(made, "reconcile")
    monkeypatch.chdir(made)
    return made


def command(*words: str) -> int:
    """In this process, where the engine is faulty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["provisioner", *words])
        return command_line._code(command_line._invoke)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_what_fails_for_one_is_done_for_all_others(
    repo: Path, engine: str, fault: Callable[[], Exception], capfd: pytest.CaptureFixture[str]
) -> None:
    add_branches(repo, *OTHERS, VICTIM)
    others = {f"git-branch/{name}" for name in OTHERS}
    steps = [step for step in STEPS if not isinstance(fault(), StorageFailed) or step not in OF_ALL]
    with faulty(engine, steps, VICTIM, fault) as raised:
        assert command("reconcile") == 1
    told = capfd.readouterr().err
    assert VICTIM in told
    assert "the disk is on fire" in told
    assert "provisioner database fix --all" in told
    found = statuses(repo)
    assert {found[name] for name in others} == {"connected"}
    assert found[f"git-branch/{VICTIM}"] == "error"
    assert raised
    ok(repo, "reconcile")
    assert set(statuses(repo).values()) == {"connected"}

    git(repo, "branch", "-q", "-D", *OTHERS, VICTIM)
    with faulty(engine, steps, VICTIM, fault):
        assert command("reconcile") == 1
    found = statuses(repo)
    assert not found.keys() & others, "archived, and purged at once"
    assert found[f"git-branch/{VICTIM}"] == "error"
    ok(repo, "reconcile")
    assert statuses(repo) == {"production": "connected"}


@pytest.mark.parametrize("step", STEPS)
def test_each_step_that_fails_for_one_leaves_the_others_alone(repo: Path, engine: str, step: str) -> None:
    others = {f"git-branch/{name}" for name in OTHERS}
    add_branches(repo, *OTHERS, VICTIM)
    with faulty(engine, [step], VICTIM, FAULTS["one that nobody expects"]):
        command("reconcile")
        assert {statuses(repo)[name] for name in others} == {"connected"}
        command("token", "revoke", "--app", "shop")
        assert {statuses(repo)[name] for name in others} == {"connected"}
        git(repo, "branch", "-q", "-D", *OTHERS, VICTIM)
        command("reconcile")
        assert not statuses(repo).keys() & others
    ok(repo, "reconcile")
    assert statuses(repo) == {"production": "connected"}


def two_apps(tmp_path: Path) -> tuple[Path, Path]:
    broken = repository(tmp_path / "a-broken")
    ok(broken, "init", "--no-hooks")
    well = repository(tmp_path / "b-well")
    ok(well, "init", "--no-hooks")
    return broken, well


def gone(repo: Path) -> None:
    shutil.rmtree(repo)


def another(repo: Path) -> None:
    shutil.rmtree(repo)
    git(repo.parent, "init", "-q", "-b", "main", repo.name)
    git(repo, "commit", "-q", "--allow-empty", "-m", "another history")


@pytest.mark.parametrize("breaks", [gone, another])
def test_an_app_that_fails_does_not_keep_the_others_from_being_reconciled(
    tmp_path: Path, breaks: Callable[[Path], None]
) -> None:
    broken, well = two_apps(tmp_path)
    breaks(broken)
    add_branches(well, "new")
    done = provisioner(tmp_path, "reconcile", "--all")
    assert done.returncode != 0
    assert "a-broken" in done.stderr
    assert statuses(well) == {"production": "connected", "git-branch/new": "connected"}
    assert provisioner(tmp_path, "status", "--all").returncode == 0
    git(well, "branch", "more")
    with daemon(Path(os.environ["PROVISIONER_HOME"])):
        until(lambda: statuses(well).get("git-branch/more") == "connected")
