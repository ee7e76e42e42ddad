"""A success says so in one line, lengths of time have units, and an old spelling still works with a note."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import git, ok, provisioner, repository, shop


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop")


def test_what_used_to_succeed_in_silence_says_what_it_did(repo: Path) -> None:
    assert provisioner(repo, "kv", "set", '["a"]', "1").stderr == 'Set ["a"]\n'
    assert provisioner(repo, "kv", "delete", '["a"]', "--yes").stderr == 'Deleted ["a"]\n'
    assert provisioner(repo, "kv", "delete", '["a"]', "--yes").stderr == 'Nothing is stored under ["a"]\n'
    assert provisioner(repo, "reconcile").stderr == "shop: no change\n"


def test_a_key_expires_after_a_time_with_a_unit(repo: Path) -> None:
    ok(repo, "kv", "set", '["a"]', "1", "--expires-in", "90min")
    assert '"expire' in ok(repo, "database", "dump", "main").splitlines()[1]
    refused = provisioner(repo, "kv", "set", '["a"]', "1", "--expires-in", "soon")
    assert refused.returncode == 2


def test_old_spellings_work_with_a_note_on_stderr(repo: Path) -> None:
    key = provisioner(repo, "kv", "set", '["a"]', "1", "--expire-in", "600000")
    assert key.returncode == 0
    assert "note: --expire-in MS is now --expires-in DURATION. The old name stops working in 0.3" in key.stderr
    preview = provisioner(repo, "preview", "create", "HEAD", "--ttl", "2h", "--json")
    assert "note: --ttl is now --expires-in" in preview.stderr
    assert json.loads(preview.stdout)["timeline"].startswith("preview/")
    both = provisioner(repo, "preview", "create", "HEAD", "--ttl", "2h", "--expires-in", "2h")
    assert both.returncode == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("timeline", "expire", "login", "--never"), "--after never"),
        (("timeline", "expire", "login", "--default"), "--after default"),
        (("timeline", "fix", "login"), "database fix"),
        (("token", "create", "--database", "login"), "--branch"),
        (("token", "revoke", "--database", "login"), "--branch"),
        (("app", "set", "--grace", "5"), "--grace 5s"),
        (("timeline", "expire", "login", "--after", "90"), "--after 90s"),
    ],
)
def test_each_old_spelling_does_the_same_with_one_note_that_quiet_omits(
    repo: Path, old: tuple[str, ...], new: str
) -> None:
    git(repo, "branch", "login")
    done = provisioner(repo, *old)
    assert done.returncode == 0, done.stderr
    (note,) = [line for line in done.stderr.splitlines() if "note:" in line]
    assert f"is now {new}" in note
    assert "note:" not in provisioner(repo, *old, "--quiet").stderr


def test_hidden_names_of_commands_work_without_a_note(repo: Path) -> None:
    assert provisioner(repo, "app", "edit", "--grace", "1h").stderr == ""
    ok(repo, "instance", "add", "more")
    assert provisioner(repo, "instance", "set", "more", "--name", "other").stderr == ""
    assert "edit" not in ok(repo, "app", "--help")
    assert provisioner(repo, "instance", "remove", "other", "--yes").returncode == 0


def test_app_show_has_units_and_omits_what_is_not_set(repo: Path) -> None:
    shown = ok(repo, "app", "show").splitlines()
    assert {"grace: 0s", "retention: 7d", "pre deploy timeout: 10min"} <= set(shown)
    assert not [line for line in shown if "None" in line or "_ms" in line]


def test_init_takes_an_instance_an_engine_and_what_new_branches_start_from(tmp_path: Path) -> None:
    repo = repository(tmp_path / "shop", "login")
    said = ok(repo, "init", "--no-hooks", "--new-branch", "production")
    ready = "2 databases on default (deno-kv) are ready"
    assert said == f"Registered app shop with production branch main. {ready}\n"
    ok(repo, "kv", "set", '["price"]', "3", "--branch", "main", "--yes")
    git(repo, "branch", "pay")
    assert ok(repo, "kv", "get", '["price"]', "--branch", "pay") == "3\n"
    ok(repo, "instance", "add", "more")
    ok(repo, "init", "--no-hooks", "--instance", "more")
    assert json.loads(ok(repo, "app", "show", "--json"))["instances"] == ["default", "more"]
    assert provisioner(repo, "init", "--no-hooks", "--instance", "more", "--engine", "postgres").returncode == 2
    assert provisioner(repo, "init", "--no-hooks", "--engine", "deno-kv").returncode == 0
    assert provisioner(repo, "init", "--no-hooks", "--engine", "oracle").returncode == 2
