"""A home that follows another: servers on several machines, over databases that each of them reaches."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kv_instance_world import KEY, kv_shop, mark, marked, serving
from pg_server import PgServer
from pg_world import environment
from support import Done, add_branches, database_of, killed, ok, provisioner, run, until

from provisioner.kv import Kv, open_kv
from provisioner.kv.errors import AccessDenied

LEADING_COMMAND = ("sh", "-c", 'PROVISIONER_HOME="$1" exec provisioner home copy', "-")


@pytest.fixture
def follower(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere" / "home"


@contextmanager
def at(home: Path) -> Iterator[None]:
    """The commands in this block are run in another home."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PROVISIONER_HOME", str(home))
        yield


def follow(cwd: Path, home: Path, *options: str) -> Done:
    """What a follower does again and again, once."""
    return provisioner(cwd, "home", "follow", *options, "--once", "--", *LEADING_COMMAND, home)


@contextmanager
def following(home: Path) -> Iterator[None]:
    """The command that follows runs, for as long as this lasts."""
    command = ("provisioner", "home", "follow", "--every", "100ms", "--", *LEADING_COMMAND, str(home))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def test_a_server_in_a_home_that_follows_serves_what_the_other_one_has(
    tmp_path: Path, pg: PgServer, home: Path, follower: Path
) -> None:
    repo = kv_shop(tmp_path / "shop", pg, "login")
    with serving():
        mark(repo, "main", "from the first")
        with at(follower):
            assert (first := follow(repo, home)).returncode == 0, first.stderr
            assert "received at" in first.stdout
            assert follow(repo, home).stdout == ""
        with at(follower), serving(), following(home):
            production, login = (environment(repo, branch) for branch in ("main", "login"))
            with connected(production) as kv, kv.watch([KEY]) as states:
                assert next(states)[0].value == "from the first"
                with at(home):
                    mark(repo, "main", "again")
                assert next(states)[0].value == "again"
            with connected(login) as kv:
                kv.set(KEY, "from the second")
            with at(home):
                assert marked(repo, "login") == "from the second"
                add_branches(repo, "later")
                ok(repo, "reconcile")
                ok(repo, "token", "revoke", "--database", database_of(repo, "git-branch/login")["id"])
            until(lambda: _refused(login))
            until(lambda: provisioner(repo, "env", "--branch", "later").returncode == 0)
            mark(repo, "later", "here")
        assert marked(repo, "later") == "here"


def connected(given: dict[str, str]) -> Kv:
    return open_kv(given["DENO_KV_DEFAULT_PATH"], access_token=given["DENO_KV_ACCESS_TOKEN"])


def _refused(given: dict[str, str]) -> bool:
    try:
        with connected(given) as kv:
            kv.get(KEY)
    except AccessDenied:
        return True
    return False


def test_nothing_is_changed_in_a_home_that_follows(tmp_path: Path, pg: PgServer, home: Path, follower: Path) -> None:
    repo = kv_shop(tmp_path / "shop", pg, "login")
    with at(follower):
        assert follow(repo, home).returncode == 0
        before = (follower / "registry.db").read_bytes()
        for words in (
            ("reconcile",),
            ("watch",),
            ("up", "--port", "0"),
            ("database", "fork", "production", "login", "--yes"),
            ("database", "archive", database_of(repo, "git-branch/login")["name"], "--yes"),
            ("instance", "add", "other"),
            ("token", "rotate-key", "--yes"),
            ("token", "create", "--admin"),
            ("timeline", "protect", "login"),
            ("unassign", "keys", "--yes"),
        ):
            done = provisioner(repo, *words)
            assert done.returncode in (1, 2), (words, done)
            assert done.returncode == 2 or "follows another home" in done.stderr, (words, done)
        assert {row["status"] for row in json.loads(ok(repo, "status", "--json"))} == {"connected"}
        assert (follower / "registry.db").read_bytes() == before
        assert (follower / "keys" / "connect").read_bytes() == (home / "keys" / "connect").read_bytes()
        assert "received" in ok(repo, "home", "show")
        assert json.loads(ok(repo, "home", "show", "--json"))["follows"]["received_at"]
        told = provisioner(repo, "doctor").stdout
        assert "ok   follows: sh -c" in told
    shown = json.loads(ok(repo, "home", "show", "--json"))
    assert (shown["path"], shown["follows"], shown["state"]) == (str(home), None, "here")
    done = provisioner(repo, "home", "promote", "--yes")
    assert "does not follow another home" in done.stderr


def test_who_follows_takes_over(tmp_path: Path, pg: PgServer, home: Path, follower: Path) -> None:
    repo = kv_shop(tmp_path / "shop", pg, "login")
    with serving():
        mark(repo, "login", "here")
    with at(follower):
        assert follow(repo, home).returncode == 0
        assert "confirmation required" in provisioner(repo, "home", "promote").stderr
        ok(repo, "home", "promote", "--yes")
        add_branches(repo, "later")
        ok(repo, "reconcile")
        with serving():
            assert marked(repo, "login") == "here"
            mark(repo, "later", "later")
        again = follow(repo, home)
    assert again.returncode == 1
    assert "its own registry" in again.stderr


def test_what_is_no_whole_copy_changes_nothing(tmp_path: Path, home: Path, follower: Path) -> None:
    repo = tmp_path / "shop"
    run(tmp_path, "git", "init", "-q", "-b", "main", repo, check=True)
    run(repo, "git", "commit", "-q", "--allow-empty", "-m", "first", check=True)
    ok(repo, "init", "--no-hooks")
    copied = tmp_path / "copy"
    ok(repo, "home", "copy", "--output", copied)
    assert copied.stat().st_mode & 0o777 == 0o600
    whole = copied.read_bytes()
    with at(follower):
        assert _from(repo, copied).returncode == 0
        before = {path: path.read_bytes() for path in (follower / "registry.db", follower / "keys" / "connect")}
        at_places = [0, 100, 700, 1600, len(whole) // 2, len(whole) - 12_000]
        damaged = [whole[:place] for place in at_places] + [
            _turned(whole, place) for place in (560, 700, 1100, 1550, 9000)
        ]
        for data in damaged:
            copied.write_bytes(data)
            done = _from(repo, copied)
            assert done.returncode == 1
            assert "not a complete copy" in done.stderr or "is from another version" in done.stderr, done.stderr
        assert {path: path.read_bytes() for path in before} == before
        assert not list((follower / "work").iterdir())
        failing = provisioner(repo, "home", "follow", "--once", "--", "sh", "-c", "echo oh >&2; exit 3")
        assert (failing.returncode, "sh ended with 3: oh" in failing.stderr) == (1, True)
        copied.write_bytes(whole)
        with at(tmp_path / "third"):
            ok(repo, "init", "--no-hooks")
            ok(repo, "home", "copy", "--output", copied)
        assert "of another home" in _from(repo, copied).stderr
    with at(tmp_path / "fourth"):
        assert "nothing to follow" in provisioner(repo, "home", "copy").stderr or not (tmp_path / "fourth").exists()


def _from(cwd: Path, copied: Path) -> Done:
    return provisioner(cwd, "home", "follow", "--once", "--", "cat", copied)


def _turned(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("point", ["follow.intended", "follow.key", "follow.written", "follow.registry"])
def test_receiving_is_killed(tmp_path: Path, home: Path, follower: Path, point: str) -> None:
    repo = tmp_path / "shop"
    run(tmp_path, "git", "init", "-q", "-b", "main", repo, check=True)
    run(repo, "git", "commit", "-q", "--allow-empty", "-m", "first", check=True)
    ok(repo, "init", "--no-hooks")
    words = ("home", "follow", "--once", "--", *LEADING_COMMAND, os.fspath(home))
    with at(follower):
        killed(repo, point, *words)
        assert provisioner(repo, "home", "promote", "--yes").returncode == 1
        assert "follows another home" in provisioner(repo, "init", "--no-hooks").stderr
        ok(repo, *words)
        assert {row["status"] for row in json.loads(ok(repo, "status", "--json"))} == {"connected"}
        ok(repo, "home", "promote", "--yes")
