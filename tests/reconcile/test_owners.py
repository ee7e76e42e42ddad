"""Each database is stored with whose it is, and that stays true whatever is done with it."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from owner_world import lose_registry, must_be_true, said
from pg_server import PgServer
from pg_world import pg_shop
from support import (
    add_branches,
    bare,
    commit,
    daemon,
    files,
    git,
    got,
    marked_shop,
    ok,
    provisioner,
    repository,
    shop,
    until,
)

from provisioner.core.ids import AppId, DatabaseId, InstanceId
from provisioner.core.owner import InstanceMark, Owner
from provisioner.core.untrusted_file import read_text


@pytest.fixture(params=["files", "postgres"])
def repo(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "files":
        return shop(tmp_path / "shop", "login", "cart")
    return pg_shop(tmp_path / "shop", request.getfixturevalue("pg"), "login", "cart")


def _timelines(home: Path) -> list[str]:
    return sorted(os.fsdecode(owner.timeline) for owner in must_be_true(home).values())


def _owners(home: Path) -> dict[DatabaseId, Owner]:
    """What stays the same as long as a database is the same one: all but who else has had its branch's name, and how often
    its credentials have ended."""
    return {each: replace(owner, lineage=None, generation=0) for each, owner in must_be_true(home).items()}


def test_it_follows_its_branch_its_app_and_its_instance(repo: Path, home: Path) -> None:
    assert _timelines(home) == ["git-branch/cart", "git-branch/login", "production"]
    git(repo, "branch", "-m", "cart", "basket")
    ok(repo, "reconcile")
    assert _timelines(home) == ["git-branch/basket", "git-branch/login", "production"]
    instance = json.loads(ok(repo, "instance", "list", "--json"))[0]["instance"]
    ok(repo, "app", "set", "--name", "store")
    ok(repo, "instance", "edit", instance, "--name", "renamed")
    ok(repo, "reconcile")
    assert {(owner.app, owner.instance.slug) for owner in must_be_true(home).values()} == {("store", "renamed")}
    git(repo, "branch", "trunk")
    ok(repo, "app", "set", "--production-branch", "trunk")
    (production,) = [owner for owner in must_be_true(home).values() if owner.production]
    assert production.branch == b"trunk"


def test_it_stays_with_the_data_that_is_replaced_archived_and_recovered(repo: Path, home: Path) -> None:
    before = _owners(home)
    ok(repo, "database", "fork", "production", "login", "--yes")
    ok(repo, "database", "reset", "cart", "--yes")
    assert _owners(home) == before
    git(repo, "branch", "-D", "login")
    ok(repo, "reconcile")
    assert _owners(home) == before
    add_branches(repo, "login")
    ok(repo, "reconcile")
    assert _owners(home) == before
    git(repo, "branch", "-D", "cart")
    ok(repo, "reconcile")
    ok(repo, "database", "purge", "cart", "--yes")
    assert _timelines(home) == ["git-branch/login", "production"]
    add_branches(repo, "cart")
    ok(repo, "reconcile")
    assert _timelines(home) == ["git-branch/cart", "git-branch/login", "production"]


def test_previews_and_forks_of_new_branches_have_one(repo: Path, home: Path) -> None:
    instance = json.loads(ok(repo, "instance", "list", "--json"))[0]["instance"]
    ok(repo, "assign", instance, "--new-branch", "fork:production")
    add_branches(repo, "fork")
    ok(repo, "reconcile")
    ok(repo, "assign", instance, "--scrub", "true")
    add_branches(repo, "scrubbed")
    ok(repo, "reconcile")
    ok(repo, "preview", "create", "HEAD")
    found = _timelines(home)
    revision = git(repo, "rev-parse", "HEAD").stdout.strip()
    assert {f"preview/{revision}", "git-branch/fork", "git-branch/scrubbed"} < set(found)


@pytest.mark.parametrize("way", ["hooks", "push", "daemon"])
def test_whatever_provisions_writes_it(tmp_path: Path, home: Path, way: str) -> None:
    repo = repository(tmp_path / "shop")
    place = bare(tmp_path / "hub.git", repo) if way == "push" else repo
    ok(place, "init", "--name", "shop", *(["--no-hooks"] if way == "daemon" else []))
    if way == "daemon":
        with daemon(home):
            add_branches(repo, "login")
            until(lambda: len(said(home)) == 2)
    else:
        commit(repo, "more")
        git(repo, "switch", "-qc", "login")
        if way == "push":
            git(repo, "push", "-q", "hub", "login")
        until(lambda: len(said(home)) == 2)
    until(lambda: None not in said(home).values())
    assert _timelines(home) == ["git-branch/login", "production"]


def test_a_name_that_is_not_utf_8_is_written_as_git_has_it(tmp_path: Path, home: Path) -> None:
    repo = repository(tmp_path / "shop")
    raw = b"caf\xe9-\xf0\x9f\xa6\x95"
    git(repo, "branch", raw)
    ok(repo, "init", "--no-hooks")
    assert raw in {owner.branch for owner in must_be_true(home).values()}


def test_moving_an_instance_takes_it_along(tmp_path: Path, home: Path, pg: PgServer) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    before = set(must_be_true(home))
    ok(repo, "instance", "move", "default", "--directory", tmp_path / "there", "--yes")
    assert set(must_be_true(home)) == before
    ok(repo, "instance", "move", "default", "--forget", "--yes")
    ok(repo, "instance", "move", "default", "--url", pg.url(), "--yes")
    assert set(must_be_true(home)) == before


def test_what_is_cut_short_is_no_owner() -> None:
    mark = InstanceMark("home", InstanceId("instance"), "default", "deno-kv")
    owner = Owner(mark, AppId("app"), "shop", b"/shop", b"caf\xe9", False, False, DatabaseId("database"), "shop--x", 1)
    text = owner.text()
    assert Owner.parse(text) == owner
    assert all(Owner.parse(text[:length]) is None for length in range(len(text) - 2))
    assert Owner.parse('{"home": "x", "instance": {}}') is None


@pytest.mark.parametrize(
    "forged",
    [
        "9" * 400,
        "1e999",
        "-1",
        "[" * 100_000,
        f"{2**63}",
        "true}",
        '"' + "x" * 10_000_000 + '"',
        "fifo",
        "link",
        "directory",
    ],
    ids=["long", "infinite", "negative", "nested", "wide", "cut", "large", "fifo", "link", "directory"],
)
def test_a_record_that_a_program_has_written_stops_nothing(tmp_path: Path, forged: str) -> None:
    """A command that opens its database's file can write to its directory."""
    mark = InstanceMark("home", InstanceId("instance"), "default", "deno-kv")
    owner = Owner(mark, AppId("app"), "shop", b"/shop", b"x", False, False, DatabaseId("database"), "shop--x", 1)
    path = tmp_path / "owner.json"
    if forged == "fifo":
        os.mkfifo(path)
    elif forged == "link":
        path.symlink_to("/dev/zero")
    elif forged == "directory":
        path.mkdir()
    else:
        path.write_text(owner.text().replace('"generation": 0', f'"generation": {forged}'))
    before = os.listdir("/proc/self/fd")
    with (
        os.fdopen(os.open(path, os.O_RDWR), "wb") if forged == "fifo" else nullcontext()
    ):  # a writer that writes nothing
        assert Owner.parse(read_text(str(path))) is None
    assert os.listdir("/proc/self/fd") == before


def test_what_is_recovered_by_a_forged_record_can_be_recovered_again(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    record = files(repo)["login"].parent / "owner.json"
    told = set()
    for _ in range(2):
        text = record.read_text()
        owner = Owner.parse(text)
        assert owner is not None
        record.write_text(text.replace(f'"generation": {owner.generation}', f'"generation": {2**53 - 1}'))
        lose_registry(home)
        provisioner(repo, "init", "--no-hooks")
        ok(repo, "database", "recover", "--all")
        ok(repo, "token", "revoke", "--database", record.parent.name)
        ok(repo, "reconcile")
        assert Owner.parse(record.read_text()) is not None, "a record that provisioner wrote itself"
        told.add(json.loads(record.read_text())["database"]["generation"])
    assert len(told) == 2, "credentials of the first time are valid"
    assert got(files(repo)["login"]) == "git-branch/login"


def test_a_provisioned_branch_costs_one_small_file_and_one_link(tmp_path: Path, home: Path) -> None:
    repo = shop(tmp_path / "shop")
    location = home / "instances" / "default"

    def count() -> int:
        return sum(1 for _ in location.rglob("*"))

    before = count()
    add_branches(repo, "one")
    ok(repo, "reconcile")
    assert count() - before == 4  # its directory, its file, its owner, and the link
