"""An owner record is no proof if its branch has changed since it was written, or if another record claims the same branch."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import pytest
from owner_world import keep_registry, lose_registry, must_be_true, put_registry_back
from support import add_branches, files, git, got, marked_shop, ok, provisioner, put

from provisioner.core.errors import ProvisionerError
from provisioner.core.owner import Owner
from provisioner.operations.home.found_databases import take_back, with_id
from provisioner.operations.proposal import NULL_REPORTER
from provisioner.registry.store import Registry
from provisioner.system.home import Home

pytestmark = pytest.mark.slow

WIPE = "reflog expire --expire=now --expire-unreachable=now --all"
CHANGES: dict[str, tuple[str, ...]] = {
    "swapped": ("branch -m one between", "branch -m two one", "branch -m between two"),
    "renamed and made again": ("branch -m one three", "branch one main"),
    "deleted and taken by another": ("branch -D one", "branch -m two one"),
    "renamed over": ("branch -M two one",),
}
HELD: dict[str, dict[str, str]] = {
    "swapped": {"one": "git-branch/two", "two": "git-branch/one"},
    "renamed and made again": {"three": "git-branch/one", "two": "git-branch/two"},
    "deleted and taken by another": {"one": "git-branch/two"},
    "renamed over": {"one": "git-branch/two"},
}


def _run(repo: Path, *steps: str) -> None:
    for step in steps:
        git(repo, *step.split())


def _held(repo: Path) -> dict[str, str]:
    """What each branch other than production sees, if it sees anything."""
    return {name: mark for name, file in files(repo).items() if name != "main" and (mark := got(file))}


def _lost(home: Path, repo: Path, kept: Path | None) -> None:
    if kept is None:
        lose_registry(home)
        provisioner(repo, "init", "--no-hooks", "--grace", "0s")
    else:
        put_registry_back(home, kept)


@pytest.mark.parametrize("registry", ["lost", "older"])
@pytest.mark.parametrize("case", CHANGES)
def test_a_branch_gets_the_data_of_its_own_lineage_and_not_of_its_name(
    tmp_path: Path, home: Path, case: str, registry: str
) -> None:
    repo = marked_shop(tmp_path / "shop", "zero")
    kept = keep_registry(home) if registry == "older" else None
    add_branches(repo, "one", "two")
    ok(repo, "reconcile")
    for name in ("one", "two"):
        put(files(repo)[name], f"git-branch/{name}")
    if kept is not None:
        _lost(home, repo, kept)
        _run(repo, *CHANGES[case])
    else:
        _run(repo, *CHANGES[case])
        _lost(home, repo, kept)
    told = provisioner(repo, "database", "recover", "--all").stderr
    if "three" in HELD[case]:  # which has got an empty one, and no data is replaced
        ok(repo, "database", "archive", told.split("provisioner database archive ")[1].split()[0], "--yes")
        ok(repo, "database", "recover", "--all")
    provisioner(repo, "reconcile")
    assert _held(repo) == {**HELD[case], "zero": "git-branch/zero"}


def test_a_rename_that_the_older_registry_did_not_see_goes_on_from_there(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "one", "two")
    kept = keep_registry(home)
    git(repo, "branch", "-m", "one", "between")
    ok(repo, "reconcile")
    put_registry_back(home, kept)
    _run(repo, "branch -m between last", "branch between main")
    provisioner(repo, "reconcile")
    provisioner(repo, "database", "recover", "--all")
    assert _held(repo) == {"last": "git-branch/one", "two": "git-branch/two"}
    ok(repo, "reconcile")
    must_be_true(home)


def test_what_a_person_has_to_decide_stays_so_without_the_registry(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "one", "two")
    _run(repo, "reflog expire --all", *CHANGES["swapped"], WIPE)
    ok(repo, "reconcile")
    assert _held(repo) == {}
    lose_registry(home)
    provisioner(repo, "init", "--no-hooks", "--grace", "0s")
    provisioner(repo, "database", "recover", "--all")
    provisioner(repo, "reconcile")
    assert _held(repo) == {}


def test_a_record_that_git_does_not_confirm_is_withheld_until_a_person_decides(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "one", "two")
    one = files(repo)["one"].parent.name
    lose_registry(home)
    _run(repo, "reflog expire --all", *CHANGES["swapped"], WIPE)
    provisioner(repo, "init", "--no-hooks", "--grace", "0s")
    told = provisioner(repo, "database", "recover", "--all")
    assert told.returncode == 1
    assert f"provisioner database recover {one} --app shop --to BRANCH" in told.stdout + told.stderr
    assert _held(repo) == {}
    alone = provisioner(repo, "database", "recover", one)
    assert (alone.returncode, "--to BRANCH" in alone.stderr) == (1, True)
    ok(repo, "database", "recover", one, "--app", "shop", "--to", "two")
    assert _held(repo) == {"two": "git-branch/one"}
    ok(repo, "reconcile")
    assert _held(repo) == {"two": "git-branch/one"}


def test_a_record_is_withheld_while_an_instance_does_not_answer_whose_records_could_contradict_it(
    tmp_path: Path, home: Path
) -> None:
    repo = marked_shop(tmp_path / "shop", "one")
    one = files(repo)["one"].parent.name
    lose_registry(home)
    provisioner(repo, "init", "--no-hooks", "--grace", "0s")
    ok(repo, "instance", "add", "other", "--engine", "deno-kv", "--directory", str(tmp_path / "other"))
    with Registry.open(Home(str(home))) as registry:
        found = with_id(registry, one)
        assert found is not None
        (tmp_path / "other").rename(tmp_path / "away")
        why = "other does not answer, and a database there may claim the same branch. Start it, or mount its disk"
        with pytest.raises(ProvisionerError, match=why):
            list(take_back(registry, [found]).do(NULL_REPORTER))
        refused = provisioner(repo, "database", "recover", "--all")
        missing = f"the databases of {tmp_path / 'other'} are missing: "
        assert (refused.returncode, missing in refused.stderr) == (1, True), refused
        assert _held(repo) == {}
        (tmp_path / "away").rename(tmp_path / "other")
        list(take_back(registry, [found]).do(NULL_REPORTER))
    assert _held(repo) == {"one": "git-branch/one"}


def test_a_copied_directory_does_not_say_whose_it_is(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "one")
    directory = files(repo)["one"].parent
    copy = directory.parent / str(uuid.uuid4())
    shutil.copytree(directory, copy)
    lose_registry(home)
    provisioner(repo, "init", "--no-hooks", "--grace", "0s")
    provisioner(repo, "database", "recover", "--all")
    assert _held(repo) == {"one": "git-branch/one"}
    assert files(repo)["one"].parent == directory
    assert f"{copy} is not in the registry" in provisioner(repo, "doctor").stdout


def test_two_records_that_claim_one_branch_give_it_neither(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "one", "two")
    records = {name: file.parent / "owner.json" for name, file in files(repo).items()}
    text = json.loads(records["one"].read_text())
    text["database"]["id"] = records["two"].parent.name
    forged = Owner.parse(json.dumps(text))
    assert forged is not None
    records["two"].write_text(forged.text())
    lose_registry(home)
    provisioner(repo, "init", "--no-hooks", "--grace", "0s")
    told = provisioner(repo, "database", "recover", "--all")
    assert (told.returncode, "2 stored databases belong to one timeline" in told.stderr) == (1, True), told
    assert _held(repo) == {}


def test_credentials_that_were_revoked_stay_so_in_an_older_registry(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "one")
    kept = keep_registry(home)
    before = json.loads(ok(repo, "status", "--json"))
    (one,) = [database["id"] for row in before if row["branch"] == "one" for database in row["databases"]]
    ok(repo, "token", "revoke", "--database", one)
    ok(repo, "reconcile")
    put_registry_back(home, kept)
    closed = provisioner(repo, "exec", "--branch", "one", "--", "true")
    assert (closed.returncode, f"provisioner database recover {one}" in closed.stderr) == (3, True), closed
    told = provisioner(repo, "doctor")
    line = f"its database {one}"
    assert [each for each in told.stdout.splitlines() if line in each and f"provisioner database recover {one}" in each]
    ok(repo, "database", "recover", "--all")
    assert line not in provisioner(repo, "doctor").stdout
    assert _held(repo) == {"one": "git-branch/one"}
