"""An instance that has to keep each write on several nodes: nothing is done on it while it does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from connect_world import deno_command
from kv_instance_world import opened, serving
from pg_server import PgServer, pg_running
from pg_standby import standby_of
from pg_world import environment, mark, marked
from support import add_branches, daemon, ok, provisioner, repository, statuses, until
from test_replication import SETTINGS, promised, set_to

QUORUM = "ANY 1 (node2)"


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[PgServer, PgServer]]:
    """A primary and its only standby."""
    with pg_running(SETTINGS) as primary, ExitStack() as stack:
        yield primary, stack.enter_context(standby_of(primary, "node2"))
        primary.stop(signal.SIGQUIT)  # in order it would wait for standbys


@pytest.fixture
def primary(pair: tuple[PgServer, PgServer]) -> PgServer:
    if not pair[1].answers():
        pair[1].start()
    set_to(pair[0], synchronous_standby_names=QUORUM)
    until(lambda: promised(pair[0]).holds)
    return pair[0]


@pytest.fixture
def repo(tmp_path: Path, primary: PgServer) -> Path:
    path = tmp_path / "shop"
    repository(path, "login")
    ok(path, "instance", "add", "main", "--engine", "postgres", "--url", primary.url(), "--require-quorum", "2")
    ok(path, "app", "add", "--name", "shop")
    ok(path, "assign", "main", "shop")
    return path


def _shown(repo: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ok(repo, "instance", "show", "main", "--json"))
    return found


def test_an_instance_tells_who_follows_and_on_how_many_nodes_a_write_lies(repo: Path) -> None:
    found = _shown(repo)
    assert (found["status"], found["error"]) == ("connected", None)
    replication = found["replication"]
    assert (replication["required"], replication["nodes"], replication["problem"]) == (2, 2, None)
    (standby,) = replication["standbys"]
    assert (standby["name"], standby["state"], standby["sync"]) == ("node2", "streaming", "quorum")
    assert isinstance(standby["lag_bytes"], int)
    told = ok(repo, "instance", "show", "main")
    assert "replication: an acknowledged write is stored on at least 2 nodes, 2 are required" in told
    assert "node2  127.0.0.1  streaming  quorum" in told
    assert "ok   quorum: an acknowledged write is stored on 2 nodes or more" in ok(repo, "instance", "test", "main")


def test_a_server_that_does_not_promise_is_not_added(tmp_path: Path, primary: PgServer) -> None:
    repository(tmp_path / "shop")
    words = ("instance", "add", "main", "--engine", "postgres", "--url", primary.url(), "--require-quorum")
    done = provisioner(tmp_path / "shop", *words, "3")
    assert done.returncode == 1
    assert "does not keep every write on 3 nodes" in done.stderr
    assert "stored on 2 nodes, and 3 are wanted" in done.stderr
    assert primary.password not in done.stdout + done.stderr
    assert ok(tmp_path / "shop", "instance", "list") == ""
    assert provisioner(tmp_path / "shop", *words, "1").returncode == 2


def test_what_is_on_one_machine_promises_no_quorum(tmp_path: Path) -> None:
    repository(tmp_path / "shop")
    refusals = {"deno-kv": "--require-quorum needs a server", "postgres": "--require-quorum is for linked servers"}
    for engine, refusal in refusals.items():
        done = provisioner(tmp_path / "shop", "instance", "add", "main", "--engine", engine, "--require-quorum", "2")
        assert (done.returncode, refusal in done.stderr) == (2, True)


def test_while_the_promise_is_broken_databases_are_in_error_and_then_mended(
    repo: Path, pair: tuple[PgServer, PgServer]
) -> None:
    mark(repo, "login", "kept")
    pair[1].stop()
    until(lambda: not promised(pair[0]).holds)
    add_branches(repo, "later")
    assert "so writes wait" in provisioner(repo, "reconcile").stderr
    assert set(statuses(repo).values()) == {"error"}
    found = _shown(repo)
    assert found["status"] == "error"
    assert "node2 is not connected" in found["error"]
    assert all("so writes wait" in database["error"] for database in found["databases"])
    assert provisioner(repo, "exec", "--branch", "login", "--", "true").returncode == 3
    done = provisioner(repo, "instance", "test", "main")
    assert "FAIL quorum: 0 of 1 standby" in done.stdout
    assert "FAIL" in provisioner(repo, "doctor").stdout
    pair[1].start()
    until(lambda: promised(pair[0]).holds)
    ok(repo, "database", "fix", "--all")
    assert set(statuses(repo).values()) == {"connected"}
    assert marked(repo, "login") == "kept"


def test_a_daemon_finds_out_by_itself_that_a_promise_is_broken_and_kept_again(
    repo: Path, pair: tuple[PgServer, PgServer], home: Path
) -> None:
    with daemon(home):
        until(lambda: set(statuses(repo).values()) == {"connected"})
        pair[1].stop()
        until(lambda: set(statuses(repo).values()) == {"error"})
        pair[1].start()
        until(lambda: set(statuses(repo).values()) == {"connected"})


WATCHER = """
const kv = await Deno.openKv(Deno.args[0]);
for await (const [entry] of kv.watch([["mark"]])) console.log(entry.value);
"""


def test_programs_that_reach_deno_kv_through_a_server_wait_while_the_promise_is_broken(
    tmp_path: Path, pair: tuple[PgServer, PgServer], primary: PgServer
) -> None:
    repo = repository(tmp_path / "shop")
    ok(repo, "instance", "add", "keys", "--url", primary.url(), "--require-quorum", "2")
    ok(repo, "app", "add", "--name", "shop")
    ok(repo, "assign", "keys", "shop")
    script = tmp_path / "watch.ts"
    script.write_text(WATCHER)
    with serving(), opened(repo, "main") as kv:
        given = environment(repo, "main")
        with program(*deno_command(script, given["DENO_KV_DEFAULT_PATH"]), add=given) as watching:
            assert watching.readline() == "null\n"
            pair[1].stop()
            until(lambda: not promised(primary).holds)
            provisioner(repo, "database", "fix", "--all")
            assert statuses(repo) == {"production": "error"}
            until(lambda: _answered(given) == 503)
            pair[1].start()
            until(lambda: promised(primary).holds)
            ok(repo, "database", "fix", "--all")
            kv.set(("mark",), "written")
            assert watching.readline() == "written\n"


def _answered(given: dict[str, str]) -> int:
    """What the metadata exchange is answered with."""
    headers = {"Authorization": f"Bearer {given['DENO_KV_ACCESS_TOKEN']}"}
    asked = urllib.request.Request(given["DENO_KV_DEFAULT_PATH"], b"", headers, method="POST")
    try:
        with urllib.request.urlopen(asked) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@contextmanager
def program(*command: str, add: dict[str, str]) -> Iterator[IO[str]]:
    """What a program prints, for as long as this lasts."""
    process = subprocess.Popen(command, env={**os.environ, **add}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        process.wait()


def test_a_promise_that_nobody_needs_any_more_is_taken_back(repo: Path, primary: PgServer) -> None:
    set_to(primary, synchronous_standby_names="")
    done = provisioner(repo, "instance", "edit", "main", "--require-quorum", "3")
    assert done.returncode == 1
    assert _shown(repo)["replication"]["required"] == 2
    assert _shown(repo)["status"] == "error"
    ok(repo, "instance", "edit", "main", "--require-quorum", "0")
    found = _shown(repo)
    assert found["status"] == "connected"
    assert (found["replication"]["required"], found["replication"]["nodes"]) == (0, 1)
