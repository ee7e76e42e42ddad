"""A change of settings, tokens, or keys that is cut off, by a kill or by an error, is whole or not there, and can be repeated."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from support import Done, git, got, killed, marked_shop, ok, points, provisioner, rows, statuses

from provisioner.core.clock import now_ms
from provisioner.core.model import Scope
from provisioner.hosting.router.access import PreviewAccess
from provisioner.reconcile.apply.renewals import settle_rotation
from provisioner.registry import tokens
from provisioner.registry.store import Registry
from provisioner.system import secret_key
from provisioner.system.file_lock import locked
from provisioner.system.home import Home

LONG = "KV_NIGHTLY" in os.environ
Words = tuple[str, ...]
CHANGES: dict[str, tuple[Words, Words]] = {
    "timeline protect": (("timeline", "protect", "login"), ("timeline", "unprotect", "login")),
    "timeline expire": (
        ("timeline", "expire", "login", "--after", "30d"),
        ("timeline", "expire", "login", "--after", "default"),
    ),
    "app set": (
        ("app", "set", "--grace", "2h", "--retention", "9d"),
        ("app", "set", "--grace", "0s", "--retention", "30d"),
    ),
    "var set": (("var", "set", "A=1", "B=2"), ("var", "unset", "A", "B", "--yes")),
    "database share": (("database", "share", "main", "login", "--yes"), ("database", "unshare", "login")),
    "preview create": (("preview", "create", "HEAD"), ("preview", "delete", "HEAD", "--yes")),
}
TRIED = CHANGES if LONG else ("timeline protect", "app set")


def settings(repo: Path) -> Any:
    """What these commands change, without times and ids."""
    shown = json.loads(ok(repo, "timeline", "list", "--json"))
    kept = [{key: each[key] for key in ("timeline", "protected", "status") if key in each} for each in shown]
    expiry = [each.get("expires_at") is not None for each in shown]
    app = json.loads(ok(repo, "app", "show", "--json"))
    named = [(each["timeline"], each["status"]) for each in rows(repo)]
    variables = [
        (each["name"], each["context"], each["value"]) for each in json.loads(ok(repo, "var", "list", "--json"))
    ]
    return kept, expiry, app["grace_ms"], app["retention_ms"], variables, sorted(named)


@pytest.mark.parametrize("name", TRIED)
@pytest.mark.parametrize("how", ["", "!"], ids=["killed", "an error"])
def test_at_each_transaction_of_a_change(tmp_path: Path, home: Path, name: str, how: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    change, undo = CHANGES[name]
    ok(repo, *change)
    ok(repo, *undo)
    before = settings(repo)
    ok(repo, *change)
    done = settings(repo)
    ok(repo, *undo)
    assert done != before
    for point in points("registry") if LONG else ["registry.committed"]:
        for number in count(1):
            if not _cut_off(provisioner(repo, *change, add={"PROVISIONER_FAULT": f"{point}:{number}{how}"}), how):
                break
            ok(repo, "reconcile")
            assert settings(repo) in (before, done), (point, number)
            ok(repo, *change)
            assert settings(repo) == done
            ok(repo, *undo)
            assert settings(repo) == before
        assert number > 1
        ok(repo, *undo)
    ok(repo, "reconcile")
    assert _problems(home) == []
    assert {got(row["path"]) for row in rows(repo) if row["status"] == "connected"} == {
        "production",
        "git-branch/login",
    }


def test_at_each_transaction_of_a_purge(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop", "login", options=("--grace", "0s", "--retention", "0s"))
    for point in points("registry") if LONG else ["registry.committed"]:
        for number in count(1) if LONG else (2,):
            git(repo, "branch", "-q", "ends")
            ok(repo, "reconcile")
            git(repo, "branch", "-q", "-D", "ends")
            cut_off = _cut_off(provisioner(repo, "prune", "--yes", add={"PROVISIONER_FAULT": f"{point}:{number}"}), "")
            ok(repo, "prune", "--yes")
            assert statuses(repo) == {"production": "connected", "git-branch/login": "connected"}
            if not cut_off:
                break
        assert cut_off != LONG
    assert _problems(home) == []
    assert {got(row["path"]) for row in rows(repo)} == {"production", "git-branch/login"}
    assert len(list(home.glob("instances/*/live/*"))) == len(rows(repo))


def _cut_off(done: Done, how: str) -> bool:
    """Whether the fault came to pass: fewer transactions than that are the end of the series."""
    if done.returncode == 0:
        return False
    assert done.returncode == (1 if how else -signal.SIGKILL), done
    assert "Traceback" not in done.stderr
    assert done.stderr.count("bug in provisioner") == 0, done
    return True


def _problems(home: Path) -> list[str]:
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        found = [str(row[0]) for row in registry.execute("pragma integrity_check")]
        return [each for each in found if each != "ok"] + list(map(str, registry.execute("pragma foreign_key_check")))


@pytest.mark.parametrize("point", [*points("rotate"), "registry.committing", "registry.committed"])
@pytest.mark.parametrize("how", ["", "!"] if LONG else [""])
def test_a_new_key_is_known_to_all_databases_or_there_is_none(tmp_path: Path, home: Path, point: str, how: str) -> None:
    repo = marked_shop(tmp_path / "shop", "login")
    ok(repo, "token", "list")
    secret = home / "keys" / "connect"
    if not secret.exists():
        ok(repo, "token", "rotate-key", "--yes")
    key, told = secret.read_bytes(), _renewals(home)
    assert _cut_off(provisioner(repo, "token", "rotate-key", "--yes", add={"PROVISIONER_FAULT": point + how}), how)
    ok(repo, "reconcile")
    replaced = secret.read_bytes() != key
    assert replaced == (point != "rotate.intended")
    assert [after > before for before, after in zip(told, _renewals(home), strict=True)] == [replaced] * len(told)
    assert [path.name for path in (home / "keys").iterdir()] == ["connect"]
    ok(repo, "token", "rotate-key", "--yes")
    assert secret.read_bytes() != key
    assert {got(row["path"]) for row in rows(repo)} == {"production", "git-branch/login"}


def _renewals(home: Path) -> list[int]:
    with closing(sqlite3.connect(home / "registry.db")) as registry:
        return [row[0] for row in registry.execute("select renewals from database order by id")]


def test_what_a_revoked_token_has_opened_ends_even_if_the_command_was_killed(tmp_path: Path, home: Path) -> None:
    repo = marked_shop(tmp_path / "shop")
    app_id = json.loads(ok(repo, "app", "show", "--json"))["id"]
    with Registry.open(Home(str(home))) as registry:
        token, _ = tokens.create(registry, Scope.ADMIN, now_ms())
    access = PreviewAccess(Home(str(home)))
    access.sessions.begin("shop.localhost", app_id, "token", now_ms(), token_id=token.id)
    access.sweep(now_ms())
    assert len(access.sessions.listing(now_ms())) == 1
    killed(repo, "revoke.recorded", "token", "revoke", token.id)
    access.sweep(now_ms())  # as the router does each minute, and before it starts
    assert access.sessions.listing(now_ms()) == []
    ok(repo, "token", "revoke", token.id)


def test_a_reconcile_meanwhile_takes_no_rotation_for_one_that_was_cut_off(tmp_path: Path, home: Path) -> None:
    marked_shop(tmp_path / "shop", "login")
    place = Home(str(home))
    secret_key.secret(place)
    told = _renewals(home)
    with ThreadPoolExecutor(1) as beside:
        with locked(os.path.join(place.locks, "keys.lock"), "the home's key"):  # as rotate-key does
            Path(f"{place.key}.before").write_text(secret_key.fingerprint(place))
            settled = beside.submit(_settle, place)
            wait([settled], timeout=0.5)
            Path(place.key).write_bytes(os.urandom(secret_key.KEY_BYTES))
        settled.result()
    _settle(place)
    assert [after > before for before, after in zip(told, _renewals(home), strict=True)] == [True] * len(told)
    assert not Path(f"{place.key}.before").exists()


def _settle(home: Home) -> None:
    with Registry.open(home) as registry:
        settle_rotation(registry, now_ms())
