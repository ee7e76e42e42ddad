"""Several instances of an app, and several apps of an instance."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import DENO, Running, add_branches, daemon, git, got, ok, provisioner, put, repository, rows, run, shop

from provisioner.core.connection import instance_variables
from provisioner.core.naming import slug


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """An app with the instances `default` and `user-carts`; each database holds its instance and timeline."""
    repo = shop(tmp_path / "shop", "login")
    ok(repo, "instance", "add", "user-carts")
    ok(repo, "assign", "user-carts")
    for row in rows(repo):
        put(row["path"], f"{row['instance']} {row['timeline']}")
    return repo


def environment(cwd: Path, *selectors: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(ok(cwd, "env", "--format", "json", *selectors))
    return found


def test_each_instance_has_variables_of_its_own_and_the_first_the_usual_ones(repo: Path) -> None:
    found = environment(repo, "--branch", "login")
    named = {row["instance"]: row for row in rows(repo) if row["timeline"] == "git-branch/login"}
    assert found["DENO_KV_DEFAULT_PATH"] == found["DEFAULT_KV_PATH"] == named["default"]["path"]
    assert found["PROVISIONER_KV_URL"] == found["DEFAULT_KV_URL"]
    assert found["PROVISIONER_DATABASE"] == found["DEFAULT_DATABASE"] == named["default"]["name"]
    assert found["USER_CARTS_KV_PATH"] == named["user-carts"]["path"]
    assert found["USER_CARTS_KV_URL"] == "sqlite://" + named["user-carts"]["path"]
    assert found["USER_CARTS_DATABASE"] == named["user-carts"]["name"]
    assert not [name for name in found if name.endswith("ACCESS_TOKEN")]
    assert got(found["USER_CARTS_KV_PATH"]) == "user-carts git-branch/login"


def test_the_first_assigned_stays_first(repo: Path) -> None:
    ok(repo, "unassign", "default", "--yes")
    assert environment(repo)["DENO_KV_DEFAULT_PATH"] == environment(repo)["USER_CARTS_KV_PATH"]
    assert "DEFAULT_KV_PATH" not in environment(repo)
    ok(repo, "assign", "default")
    assert environment(repo)["DENO_KV_DEFAULT_PATH"] == environment(repo)["DEFAULT_KV_PATH"]


def test_who_takes_the_first_away_is_told_what_the_usual_variables_mean_then(repo: Path) -> None:
    says = "Deno.openKv() opens the databases of user-carts from then on"
    assert says in provisioner(repo, "unassign", "default").stderr
    assert says in provisioner(repo, "instance", "delete", "default").stdout
    assert says in ok(repo, "unassign", "default", "--yes")
    ok(repo, "assign", "default")
    assert "openKv" not in ok(repo, "unassign", "user-carts", "--yes")


def test_of_several_instances_it_is_said_which_a_database_is_on(repo: Path) -> None:
    for command in (("status",), ("database", "list")):
        said = ok(repo, *command)
        assert ("user-carts" in said, "default" in said) == (True, True), command


def test_two_databases_of_a_timeline_have_different_names(repo: Path) -> None:
    git(repo, "branch", "-m", "login", "signin")
    add_branches(repo, "late")
    ok(repo, "reconcile")
    by_timeline: dict[str, dict[str, str]] = {}
    for row in rows(repo):
        by_timeline.setdefault(row["timeline"], {})[row["instance"]] = row["name"]
    assert by_timeline.keys() == {"production", "git-branch/signin", "git-branch/late"}
    for names in by_timeline.values():
        assert len(set(names.values())) == 2, names
        assert "user-carts" in names["user-carts"]
        assert [row["instance"] for row in rows(repo) if row["name"] == names["default"]] == ["default"]
        shown = json.loads(ok(repo, "database", "show", names["user-carts"], "--json"))
        assert (shown["name"], shown["instance"]) == (names["user-carts"], "user-carts")


def test_databases_that_were_named_alike_get_different_names_by_an_upgrade(repo: Path, home: Path) -> None:
    before = {row["id"]: row for row in rows(repo)}
    with closing(sqlite3.connect(home / "registry.db")) as registry, registry:
        registry.execute("drop index database_named")
        registry.execute("drop index database_by_name")
        registry.execute("update database set name = substr(name, 1, 40)")
        alike = "select min(name) from database as other where other.timeline_id = database.timeline_id"
        registry.execute(f"update database set name = ({alike})")
        registry.execute("delete from _sqlite_migrations where name = '0009_names'")
        registry.execute("pragma user_version = 8")
    after = {row["id"]: row for row in rows(repo)}
    assert after.keys() == before.keys()
    assert len({(row["timeline"], row["name"]) for row in after.values()}) == len(before) == 4
    for number, row in after.items():
        assert got(row["path"]) == f"{before[number]['instance']} {before[number]['timeline']}"


PROGRAM = """
const read = async (path: string | undefined) => {
  const kv = await Deno.openKv(path);
  await kv.set(["seen"], Deno.args[0]);
  const seen = (await kv.get<string>(["seen"])).value;
  kv.close();
  return seen;
};
console.log(await read(undefined));
if (Deno.env.get("USER_CARTS_KV_ACCESS_TOKEN")) {
  Deno.env.set("DENO_KV_ACCESS_TOKEN", Deno.env.get("USER_CARTS_KV_ACCESS_TOKEN")!);
}
console.log(await read(Deno.env.get("USER_CARTS_KV_PATH")));
"""


def test_real_deno_opens_both_by_file_and_by_url(repo: Path, home: Path) -> None:
    (repo / "main.ts").write_text(PROGRAM)
    deno = (DENO, "run", "-A", "--quiet", "--unstable-kv", "main.ts")
    assert ok(repo, "exec", "--branch", "login", "--", *deno, "file") == "file\nfile\n"
    with daemon(home, "provisioner", "serve", "--port", "0", announced="server") as running:
        assert isinstance(running, Running)
        assert environment(repo)["USER_CARTS_KV_URL"].startswith("http://")
        assert ok(repo, "exec", "--branch", "login", "--", *deno, "url") == "url\nurl\n"
    for row in rows(repo):
        seen = provisioner(repo, "database", "dump", row["id"]).stdout
        assert ('"url"' in seen) == (row["timeline"] == "git-branch/login"), row


def test_one_that_is_not_connected_keeps_the_app_from_starting(repo: Path) -> None:
    second = next(row for row in rows(repo) if (row["instance"], row["timeline"]) == ("user-carts", "production"))
    ok(repo, "database", "archive", second["id"], "--yes")
    for command in (("exec", "--", "true"), ("env",)):
        refused = provisioner(repo, *command)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "was archived by hand" in refused.stderr
    ok(repo, "exec", "--branch", "login", "--", "true")
    ok(repo, "unassign", "user-carts", "--yes")
    ok(repo, "exec", "--", "true")


def test_a_new_branch_is_reconciled_by_exec_on_all_instances(repo: Path) -> None:
    add_branches(repo, "new")
    found = environment(repo, "--branch", "new")
    assert got(found["DEFAULT_KV_PATH"]) == got(found["USER_CARTS_KV_PATH"]) == ""


def test_an_instance_of_several_apps_keeps_them_apart(repo: Path, tmp_path: Path) -> None:
    other = repository(tmp_path / "other", "login")
    ok(other, "init", "--no-hooks", "--name", "other", "--grace", "0s")
    ok(other, "assign", "user-carts")
    theirs = environment(other, "--branch", "login")
    assert theirs["USER_CARTS_KV_PATH"] != environment(repo, "--branch", "login")["USER_CARTS_KV_PATH"]
    assert got(theirs["USER_CARTS_KV_PATH"]) == ""
    git(other, "branch", "-q", "-D", "login")
    ok(other, "reconcile")
    assert got(environment(repo, "--branch", "login")["USER_CARTS_KV_PATH"]) == "user-carts git-branch/login"


def test_unassigning_keeps_the_data_and_assigning_brings_it_back(repo: Path) -> None:
    before = {row["id"]: row for row in rows(repo)}
    said = ok(repo, "unassign", "user-carts", "--yes")
    assert "its data back" in said
    archived = {row["id"] for row in rows(repo) if row["status"] == "archived"}
    assert {before[each]["instance"] for each in archived} == {"user-carts"}
    assert {row["purge_at"] for row in rows(repo)} == {None}
    ok(repo, "assign", "user-carts")
    after = {row["id"]: row for row in rows(repo)}
    assert {each: (row["path"], row["status"]) for each, row in after.items()} == {
        each: (row["path"], "connected") for each, row in before.items()
    }
    assert {got(row["path"]) for row in after.values()} == {
        f"{row['instance']} {row['timeline']}" for row in after.values()
    }


@pytest.mark.parametrize("name", ["deno", "pg", "ld", "provisioner", "database", "2nd", "Carts", "a--b", ""])
def test_names_whose_variables_would_mean_something_else_are_refused(tmp_path: Path, name: str) -> None:
    refused = provisioner(tmp_path, "instance", "add", "--", name)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "cannot be the name of an instance" in refused.stderr
    assert "Try '" in refused.stderr
    ok(tmp_path, "instance", "add", refused.stderr.split("Try '")[1].rstrip("'\n"))


@given(st.lists(st.text("ab-kvdtset", min_size=1).map(lambda text: slug(text, 40)).filter(bool), unique=True))
def test_no_two_instances_have_a_variable_in_common(slugs: list[str]) -> None:
    names = [name for each in slugs for name in instance_variables(each)]
    assert len(set(names)) == len(names)


def test_a_command_without_a_name_takes_the_instance_it_is_told(repo: Path) -> None:
    said = ok(repo, "database", "snapshot", "create", "--instance", "user-carts")
    second = next(row for row in rows(repo) if (row["instance"], row["timeline"]) == ("user-carts", "production"))
    kept = json.loads(ok(repo, "database", "snapshot", "list", second["id"], "--json"))
    assert kept[0]["id"] in said
    ok(repo, "instance", "add", "third")
    assert provisioner(repo, "database", "snapshot", "create", "--instance", "third").returncode == 3


def test_the_variables_reach_a_program(repo: Path) -> None:
    shown = ok(repo, "exec", "--", "sh", "-c", 'printf "%s" "$USER_CARTS_DATABASE"')
    assert shown == environment(repo)["USER_CARTS_DATABASE"]
    text = ok(repo, "env", "--format", "shell")
    assert (
        run(repo, "sh", "-c", f'{text}\nprintf %s "$USER_CARTS_KV_PATH"').stdout
        == environment(repo)["USER_CARTS_KV_PATH"]
    )
