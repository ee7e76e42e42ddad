"""--json: one document on stdout for what was done, one line on stderr for what failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile import command_of, leaves
from support import marked_shop, ok, provisioner

NO_JSON = {"exec", "dev", "completion"}  # which run another program, and which prints one
CHANGE = {"action", "app", "timeline", "databases", "snapshots", "messages", "warnings"}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return marked_shop(tmp_path / "shop", "login")


def done(repo: Path, *words: str) -> Any:
    return json.loads(ok(repo, *words, "--json"))


@pytest.mark.parametrize("name", [name for name in leaves() if name not in NO_JSON])
def test_every_command_has_json_and_the_common_options(name: str) -> None:
    words = {word for each in command_of(name).params for word in each.opts}
    assert {"--json", "--yes", "-y", "--quiet", "-q", "--verbose", "-v", "--color"} <= words


def test_a_database_verb_prints_what_it_changed_and_the_snapshots_it_took(repo: Path) -> None:
    reset = done(repo, "database", "reset", "login", "--yes")
    assert reset.keys() == CHANGE
    assert (reset["action"], reset["app"], reset["timeline"]) == ("reset", "shop", "git-branch/login")
    assert [item["status"] for item in reset["databases"]] == ["connected"]
    (before,) = reset["snapshots"]
    listed = done(repo, "database", "snapshot", "list", "login")
    assert before in listed
    taken = done(repo, "database", "snapshot", "create", "login", "--label", "mine")
    assert [item["label"] for item in taken["snapshots"]] == ["mine"]
    restored = done(repo, "database", "restore", "login", before["id"], "--yes")
    assert restored["action"] == "restore"
    assert done(repo, "database", "snapshot", "delete", before["id"], "--yes") == before
    archived = done(repo, "database", "archive", "login", "--yes")
    assert [item["status"] for item in archived["databases"]] == ["archived"]
    recovered = done(repo, "database", "recover", "login")
    assert [item["status"] for item in recovered["databases"]] == ["connected"]
    done(repo, "database", "archive", "login", "--yes")
    assert done(repo, "database", "purge", "login", "--yes")["action"] == "purge"


def test_other_changes_print_the_object_as_its_show_does(repo: Path) -> None:
    shared = done(repo, "app", "set", "--grace", "1h")
    assert shared == done(repo, "app", "show")
    assert shared["grace_ms"] == 3_600_000
    added = done(repo, "instance", "add", "more")
    assert added == next(item for item in done(repo, "instance", "list") if item["instance"] == "more")
    assert done(repo, "assign", "more")["instances"] == ["default", "more"]
    assert done(repo, "unassign", "more", "--yes")["instances"] == ["default"]
    kept = done(repo, "timeline", "protect", "login")
    assert kept["protected"]
    assert kept["timeline"] == "git-branch/login"
    assert done(repo, "app", "remove", "--yes")["app"] == "shop"


def test_variables_keys_hooks_and_the_home_are_documents_too(repo: Path) -> None:
    assert done(repo, "init")["app"] == "shop"
    (made,) = done(repo, "var", "set", "A=1", "--context", "local")
    assert (made["name"], made["context"], made["value"]) == ("A", "local", "1")
    assert done(repo, "var", "unset", "A", "--yes") == [made]
    done(repo, "kv", "set", '["a"]', "1")
    assert done(repo, "kv", "delete", '["a"]', "--yes") == {"key": ["a"], "deleted": True}
    assert done(repo, "kv", "delete", '["a"]', "--yes") == {"key": ["a"], "deleted": False}
    assert {item["state"] for item in done(repo, "hooks", "install", "shop")} == {"installed"}
    assert {item["state"] for item in done(repo, "hooks", "uninstall", "--app", "shop")} == {"missing"}
    assert done(repo, "env")["DENO_TIMELINE"] == "production"
    token = done(repo, "token", "create", "--branch", "login")["id"]
    assert done(repo, "token", "revoke", token)["revoked_at"]
    assert done(repo, "token", "revoke", "--branch", "login")["timeline"] == "git-branch/login"
    assert done(repo, "token", "rotate-key", "--yes") == done(repo, "home", "show")


def test_an_instance_is_a_document_after_each_change_of_it(repo: Path, tmp_path: Path) -> None:
    done(repo, "instance", "add", "more")
    edited = done(repo, "instance", "edit", "more", "--name", "other")
    assert edited == done(repo, "instance", "show", "other")
    assert done(repo, "instance", "move", "other", "--directory", str(tmp_path / "o"), "--yes")["instance"] == "other"
    deleted = done(repo, "instance", "delete", "other", "--yes")
    assert deleted["purge_at"]
    assert done(repo, "instance", "recover", "other")["id"] == deleted["id"] == edited["id"]


def test_common_options_work_anywhere_on_the_line(repo: Path) -> None:
    assert json.loads(ok(repo, "--json", "-q", "status")) == done(repo, "status")
    assert json.loads(ok(repo, "database", "--json", "list")) == done(repo, "database", "list")
    assert provisioner(repo, "-q", "kv", "set", '["a"]', "1").stderr == ""
    assert provisioner(repo, "kv", "set", '["a"]', "1", "-q").stderr == ""
    assert ok(repo, "-y", "database", "reset", "login")
    assert "\x1b[" in ok(repo, "status", "--color", "always")
    assert "\x1b[" in ok(repo, "status", add={"FORCE_COLOR": "1"})
    assert "\x1b[" not in ok(repo, "status", "--color", "never", add={"FORCE_COLOR": "1"})
    assert "\x1b[" not in ok(repo, "status", add={"FORCE_COLOR": "1", "NO_COLOR": "1"})
    said = provisioner(repo, "database", "reset", "login", "--yes", "-v").stderr
    assert "git-branch/login of shop, by the name login" in said
    assert "provisioner: took " in said
    assert "Traceback" in provisioner(repo, "database", "show", "nothing-is-called-so", "-vv").stderr


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (("database", "show", "nothing-is-called-so"), "not-found", 3),
        (("database", "reset", "login"), "not-confirmed", 1),
        (("database", "fork"), "usage", 2),
        (("kv", "set", "no key", "1"), "usage", 2),
        (("instance", "add", "default"), "failed", 1),
    ],
)
def test_a_failure_is_one_line_of_json_on_stderr(repo: Path, words: tuple[str, ...], code: str, exit_code: int) -> None:
    failed = provisioner(repo, *words, "--json")
    assert failed.returncode == exit_code
    assert not failed.stdout
    (line,) = failed.stderr.splitlines()
    error = json.loads(line)["error"]
    assert (error["code"], error["exit_code"]) == (code, exit_code)
    assert error.keys() == {"code", "message", "hint", "exit_code", "candidates"}
    assert error["message"]


def test_what_is_there_and_not_connected_is_not_ready_and_not_not_found(repo: Path) -> None:
    ok(repo, "database", "archive", "login", "--yes")
    failed = provisioner(repo, "database", "dump", "login", "-o", "out", "--json")
    assert json.loads(failed.stderr)["error"]["code"] == "not-ready"


@pytest.mark.parametrize(
    ("words", "code", "candidates"),
    [
        (("database", "reset", "logn"), "not-found", ["login"]),
        (("exec", "--branch", "logn", "--", "true"), "not-found", ["login"]),
        (("env", "--branch", "logn"), "not-found", ["login"]),
        (("app", "show", "shpo"), "not-found", ["shop"]),
        (("instance", "show", "defualt"), "not-found", ["default"]),
        (("status", "--instance", "defualt", "--branch", "login"), "not-found", ["default"]),
        (("var", "unset", "NMAE"), "not-found", ["NAME"]),
        (("database", "dump", "main", "-o", "x"), "ambiguous", ["default", "more"]),
        (("statsu",), "usage", ["status"]),
        (("status", "--archivd"), "usage", ["--archived"]),
    ],
)
def test_a_failure_names_what_may_have_been_meant(
    repo: Path, words: tuple[str, ...], code: str, candidates: list[str]
) -> None:
    ok(repo, "var", "set", "NAME=value")
    ok(repo, "instance", "add", "more")
    ok(repo, "assign", "more")
    failed = provisioner(repo, *words)
    assert all(name in failed.stderr for name in candidates)
    if words[0] != "exec":
        error = json.loads(provisioner(repo, *words, "--json").stderr)["error"]
        assert (error["code"], error["candidates"][: len(candidates)]) == (code, candidates)
