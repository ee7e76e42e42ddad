"""How long a timeline is kept: expiry, protection, and what `prune` says and does."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support import (
    commit,
    daemon,
    database_of,
    events,
    git,
    got,
    marked_shop,
    ok,
    provisioner,
    statuses,
    until,
)

from provisioner.operations import retention
from provisioner.operations.proposal import NULL_REPORTER
from provisioner.registry.store import Registry
from provisioner.system.home import Home


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """Each database holds the name of its timeline."""
    return marked_shop(tmp_path / "shop", "login", "cart")


LOGIN = "git-branch/login"


def timeline(repo: Path, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(ok(repo, "timeline", "list", "--json"))
    return next(item for item in found if item["timeline"] == name)


def past(home: Path, table: str, column: str) -> None:
    """Let a day have gone by since, or until, what the registry says."""
    with closing(sqlite3.connect(home / "registry.db")) as registry, registry:
        registry.execute(f"update {table} set {column} = {column} - 86400000")


def archived(repo: Path, name: str = LOGIN) -> bool:
    ok(repo, "reconcile")
    return statuses(repo)[name] == "archived"


def test_what_has_expired_is_archived_and_a_push_brings_it_back_with_its_data(repo: Path) -> None:
    assert "expires at" in ok(repo, "timeline", "expire", "login", "--after", "300ms")
    until(lambda: archived(repo))
    assert statuses(repo) == {"production": "connected", LOGIN: "archived", "git-branch/cart": "connected"}
    refused = provisioner(repo, "exec", "--branch", "login", "--", "true")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "database recover" in refused.stderr
    ok(repo, "timeline", "expire", "login", "--after", "10d")
    assert (statuses(repo)[LOGIN], got(database_of(repo, LOGIN)["path"])) == ("connected", LOGIN)
    ok(repo, "timeline", "expire", "login", "--after", "300ms")
    until(lambda: archived(repo))
    git(repo, "switch", "-q", "login")
    commit(repo, "more")
    ok(repo, "reconcile")
    assert got(database_of(repo, LOGIN)["path"]) == LOGIN


def test_what_has_expired_can_be_recovered_and_its_time_begins_anew(repo: Path, home: Path) -> None:
    ok(repo, "timeline", "expire", "login", "--after", "1h")
    past(home, "timeline", "active_at")
    assert archived(repo)
    ok(repo, "database", "recover", database_of(repo, LOGIN)["name"])
    assert statuses(repo)[LOGIN] == "connected"
    ok(repo, "reconcile")
    assert (statuses(repo)[LOGIN], got(database_of(repo, LOGIN)["path"])) == ("connected", LOGIN)
    past(home, "timeline", "active_at")
    assert archived(repo)


def test_commands_that_want_the_data_of_an_archived_database_say_how_it_comes_back(repo: Path) -> None:
    name = database_of(repo, LOGIN)["name"]
    ok(repo, "database", "archive", name, "--yes")
    for words in (("fork", "production", "login"), ("fork", "login", "cart")):
        refused = provisioner(repo, "database", *words)
        assert refused.returncode == 3
        assert f"is archived. Recover it: provisioner database recover {name}" in refused.stderr


def test_an_expired_branch_that_was_purged_stays_so_until_it_is_wanted_again(repo: Path) -> None:
    ok(repo, "timeline", "expire", "login", "--after", "100ms")
    until(lambda: archived(repo))
    ok(repo, "database", "purge", database_of(repo, LOGIN)["name"], "--yes")
    ok(repo, "reconcile")
    assert LOGIN not in statuses(repo)
    ok(repo, "timeline", "expire", "login", "--never")
    assert got(database_of(repo, LOGIN)["path"]) == ""


def test_an_app_says_how_long_its_branches_are_kept_and_a_daemon_sees_to_it(repo: Path, home: Path) -> None:
    ok(repo, "timeline", "expire", "cart", "--never")
    with daemon(home):
        ok(repo, "app", "set", "--expire-after", "1500ms")
        assert timeline(repo, LOGIN)["expires_at"]
        until(lambda: statuses(repo)[LOGIN] == "archived")
        assert statuses(repo) == {"production": "connected", LOGIN: "archived", "git-branch/cart": "connected"}
    ok(repo, "app", "set", "--expire-after", "never")
    assert statuses(repo)[LOGIN] == "connected"
    assert timeline(repo, LOGIN)["expires_at"] is None


def test_a_protected_timeline_stays_whatever_happens(repo: Path, home: Path) -> None:
    name = database_of(repo, LOGIN)["name"]
    assert ok(repo, "timeline", "protect", "login") == f"{LOGIN} is protected\n"
    assert timeline(repo, LOGIN)["protected"] is True
    for command, says in {
        ("database", "archive", name): "protected",
        ("database", "reset", "login"): "protected",
        ("database", "fork", "production", "login"): "protected",
        ("database", "purge", name): "is connected",
    }.items():
        refused = provisioner(repo, *command, "--yes")
        assert (refused.returncode, says in refused.stderr) == (1, True), command
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "app", "set", "--expire-after", "1ms")
    until(lambda: archived(repo, "git-branch/cart"))
    assert (statuses(repo)[LOGIN], got(database_of(repo, LOGIN)["path"])) == ("connected", LOGIN)
    assert ok(repo, "timeline", "unprotect", "login") == f"{LOGIN} is not protected\n"
    assert statuses(repo)[LOGIN] == "archived"
    assert events(home, "timeline.protect")


def test_protection_goes_along_with_a_renamed_branch(repo: Path) -> None:
    ok(repo, "timeline", "protect", "login")
    git(repo, "branch", "-m", "login", "signin")
    ok(repo, "reconcile")
    assert timeline(repo, "git-branch/signin")["protected"] is True
    git(repo, "branch", "login", "main")
    ok(repo, "reconcile")
    assert timeline(repo, LOGIN)["protected"] is False


def test_a_branch_renamed_over_a_protected_one_leaves_it_its_data(repo: Path) -> None:
    ok(repo, "timeline", "protect", "cart")
    git(repo, "branch", "-M", "login", "cart")
    ok(repo, "reconcile")
    assert got(database_of(repo, "git-branch/cart")["path"]) == "git-branch/cart"
    assert statuses(repo)[LOGIN] == "archived"


def pruned(repo: Path) -> list[tuple[str, str, bool]]:
    """Timeline and action, and whether it is due."""
    found: list[dict[str, Any]] = json.loads(ok(repo, "prune", "--dry-run", "--json"))
    return [(item["timeline"], item["action"], item["at"] is None) for item in found]


def test_prune_says_what_will_go_and_when(repo: Path) -> None:
    assert ok(repo, "prune", "--dry-run") == "Nothing to prune, now or later\n"
    ok(repo, "app", "set", "--expire-after", "30d")
    ok(repo, "timeline", "protect", "cart")
    assert pruned(repo) == [(LOGIN, "archive", False)]
    assert "it expires" in ok(repo, "prune", "--dry-run")
    git(repo, "branch", "-q", "-D", "login", "cart")
    ok(repo, "reconcile")
    assert pruned(repo) == [(LOGIN, "purge", False)]
    assert ok(repo, "prune") == "Nothing to prune\n"
    assert statuses(repo) == {"production": "connected", LOGIN: "archived", "git-branch/cart": "connected"}


def test_prune_says_when_what_was_deleted_with_its_instance_goes(repo: Path) -> None:
    ok(repo, "database", "archive", "--yes", database_of(repo, LOGIN)["id"])
    ok(repo, "instance", "delete", "default", "--yes", "--no-backup")
    assert sorted(pruned(repo)) == [
        ("git-branch/cart", "purge", False),
        (LOGIN, "purge", False),
        ("production", "purge", False),
    ]
    assert "its instance was deleted" in ok(repo, "prune", "--dry-run")
    ok(repo, "instance", "recover", "default")
    assert pruned(repo) == []


def test_prune_asks_and_then_does_what_is_due(repo: Path, home: Path) -> None:
    ok(repo, "app", "set", "--retention", "1h")
    ok(repo, "timeline", "expire", "login", "--after", "1h")
    past(home, "timeline", "active_at")
    assert pruned(repo) == [(LOGIN, "archive", True)]
    refused = provisioner(repo, "prune")
    assert (refused.returncode, "confirmation required" in refused.stderr) == (1, True)
    assert statuses(repo)[LOGIN] == "connected"
    assert ok(repo, "prune", "--yes") == "Archived 1 database\n"
    assert statuses(repo)[LOGIN] == "archived"
    past(home, "database", "purge_at")
    assert pruned(repo) == [(LOGIN, "purge", True)]
    assert ok(repo, "prune", "--yes") == "Permanently deleted 1 database\n"
    assert statuses(repo) == {"production": "connected", "git-branch/cart": "connected"}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("expire", "login"), 2, "--after"),
        (("expire", "login", "--after", "soon"), 2, "not a duration"),
        (("expire", "login", "--after", "0d"), 2, "at once"),
        (("expire", "main", "--after", "1d"), 1, "production"),
        (("expire", "absent", "--after", "1d"), 3, "absent"),
        (("protect", "absent"), 3, "absent"),
    ],
)
def test_what_cannot_be_said_of_a_timeline(repo: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    refused = provisioner(repo, "timeline", *arguments)
    assert (refused.returncode, refused.stdout) == (code, "")
    assert says in refused.stderr


def test_only_what_is_archived_is_purged_before_its_time(repo: Path) -> None:
    found = database_of(repo, LOGIN)
    refused = provisioner(repo, "database", "purge", found["name"], "--yes")
    assert (refused.returncode, "Archive it first" in refused.stderr) == (1, True)
    git(repo, "branch", "-q", "-D", "login")
    ok(repo, "reconcile")
    assert provisioner(repo, "database", "purge", found["name"]).returncode == 1, "nobody can be asked"
    directory = Path(database_of(repo, LOGIN)["path"]).parent
    assert directory.is_dir()
    assert ok(repo, "database", "purge", found["name"], "--yes") == f"Permanently deleted {found['name']}\n"
    assert not directory.exists()


def test_who_says_one_thing_of_a_timeline_does_not_take_back_what_another_said_meanwhile(
    repo: Path, home: Path
) -> None:
    with Registry.open(Home(str(home))) as registry:
        (app,) = registry.apps()
        login = next(item for item in registry.timelines(app.id) if item.name == LOGIN.encode())
        expire = retention.expire(registry, app, login, 14 * 86_400_000)
        ok(repo, "timeline", "protect", "login")
        assert ": it is protected" in "".join(expire.do(NULL_REPORTER))
    assert (timeline(repo, LOGIN)["protected"], bool(timeline(repo, LOGIN)["expires_at"])) == (True, False)
