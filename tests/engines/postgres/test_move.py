"""Moving an instance's databases between files and a server, while programs use them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from connect_world import deno_command
from kv_instance_world import mark, marked, opened, serving
from move_world import left_of, writing
from paths import SUPPORT
from pg_server import PgServer, pg_running
from pg_world import environment
from support import (
    add_branches,
    connected,
    database_of,
    git,
    got,
    killed,
    ok,
    provisioner,
    put,
    rows,
    shop,
    small_disk,
    until,
)

from provisioner.core.errors import ProvisionerError
from provisioner.engines.protocol.engine import StorageTarget
from provisioner.kv.model import AtomicWrite, Enqueue, Mutation, MutationKind
from provisioner.kv.stores.sqlite.store import SqliteStore
from provisioner.operations.instance.move import move
from provisioner.operations.instance.names import find
from provisioner.operations.proposal import NULL_REPORTER
from provisioner.registry.store import Registry
from provisioner.system.home import Home

LONG = os.environ.get("KV_NIGHTLY") == "1"
LOGIN = "git-branch/login"
BRANCHES = ("login", "cart", "search", "billing")
# Writes until it is told that it cannot, and says so.
DENO_ON_A_FILE = """
const kv = await Deno.openKv(Deno.args[0]);
try {
  for (let number = 1; number < 1e9; number++) {
    const { versionstamp } = await kv.atomic().set(["log", "deno", number], number).commit();
    console.log(number, versionstamp);
  }
} catch (error) {
  console.log("refused", String(error));
}
const wrong = [];
for (const what of [
  () => kv.get(["mark"]), () => Array.fromAsync(kv.list({ prefix: [] })), () => kv.set(["mark"], "again"),
  () => kv.enqueue("message"), () => kv.atomic().check({ key: ["mark"], versionstamp: null }).set(["mark"], 1).commit(),
]) {
  try { await what(); wrong.push(what.toString()); } catch { /* as it has to be */ }
}
console.log("wrong", JSON.stringify(wrong));
Deno.exit();
"""


def moved(repo: Path, *place: str) -> str:
    return ok(repo, "instance", "move", "default", "--yes", *place)


def refused(repo: Path, *command: str) -> str:
    done = provisioner(repo, *command)
    assert done.returncode in (1, 2), done
    return done.stderr


def test_five_branches_go_to_a_server_and_back_under_their_writers(tmp_path: Path, pg: PgServer) -> None:
    repo = shop(tmp_path / "shop", *BRANCHES)
    branches = ("main", *BRANCHES)
    script = SUPPORT / "connect_writers.ts"
    handled: set[object] = set()
    with (
        serving(),
        writing(repo, *branches) as writers,
        opened(repo, "login") as listener,
        opened(repo, "login") as watcher,
    ):
        listening = threading.Thread(target=listener.listen_queue, args=(handled.add,))
        for branch in branches:
            mark(repo, branch, branch)
        given = environment(repo, "login")
        command = deno_command(script, given["DENO_KV_DEFAULT_PATH"], "4")
        pipe = subprocess.PIPE
        with (
            subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                text=True,
                env={**given, "PATH": str(Path(sys.executable).parent), "HOME": str(tmp_path)},
            ) as deno,
            watcher.watch([("mark",)]) as watch,
        ):
            assert deno.stdout is not None
            first = deno.stdout.readline()
            assert next(watch)[0].value == "login"
            listening.start()
            watcher.enqueue("before")
            watcher.enqueue("later", delay=3000)
            said = moved(repo, "--url", pg.url())
            assert "Moved default to postgresql://" in said
            assert {row["path"] for row in rows(repo)} == {None}
            watcher.enqueue("there")
            until(lambda: {"before", "later", "there"} <= handled, 60)
            mark(repo, "login", "there")
            while next(watch)[0].value != "there":
                pass
            for writer in writers:
                writer.goes_on()
            moved(repo, "--forget")
            moved(repo, "--directory", str(tmp_path / "again"))
            watcher.enqueue("back")
            until(lambda: "back" in handled, 60)
            mark(repo, "login", "back")
            while next(watch)[0].value != "back":
                pass
            for writer in writers:
                writer.goes_on()
            out, _ = deno.communicate()
            assert deno.returncode == 0
        acknowledged = [line.split() for line in [first, *out.splitlines()]]
        with opened(repo, "login") as kv:
            there = {(entry.key[1], entry.key[2]) for entry in kv.list(prefix=("log",)) if entry.key[1] != "writer"}
            assert {(float(writer), float(number)) for writer, number, _ in acknowledged} <= there
            assert kv.get(("count",)).value == len(there)
        stamps = {writer: [stamp for one, _, stamp in acknowledged if one == writer] for writer, *_ in acknowledged}
        assert all(each == sorted(set(each)) for each in stamps.values())
        assert [marked(repo, branch) for branch in branches] == ["main", "back", *BRANCHES[1:]]
    assert connected(repo) == set(branches)
    assert all(name.startswith(("pvo_", "pv_")) for name in left_of(repo, pg))
    moved(repo, "--forget")
    assert left_of(repo, pg) == set()


def test_deno_on_a_file_is_refused_from_the_moment_that_nobody_looks_there(tmp_path: Path, pg: PgServer) -> None:
    repo = shop(tmp_path / "shop", "login")
    path = database_of(repo, LOGIN)["path"]
    (tmp_path / "writes.ts").write_text(DENO_ON_A_FILE)
    command = deno_command(tmp_path / "writes.ts", path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as deno:
        assert deno.stdout is not None
        lines = [deno.stdout.readline() for _ in range(50)]
        moved(repo, "--url", pg.url())
        lines += deno.stdout.read().splitlines()
    acknowledged = [line.split() for line in lines if line[0].isdigit()]
    assert "no such table" in lines[-2]
    assert lines[-1] == "wrong []"
    with serving(), opened(repo, "login") as kv:
        there = [entry.key[-1] for entry in kv.list(prefix=("log", "deno"))]
        assert there == [float(number) for number, _ in acknowledged]
        assert str(kv.set(("more",), 1).versionstamp) > acknowledged[-1][1]
    again = subprocess.run(command, capture_output=True, text=True)  # by the path that it was given before
    assert again.returncode != 0
    assert not Path(path).exists()


def test_entries_messages_snapshots_and_what_is_archived_arrive_byte_for_byte(
    tmp_path: Path, pg: PgServer, home: Path
) -> None:
    chance = random.Random(7)
    repo = shop(tmp_path / "shop", "login", "old")
    paths = {row["timeline"]: row["path"] for row in rows(repo)}
    for number, path in enumerate(paths.values()):
        fill(path, chance, 3000 if number == 0 else 200)
    ok(repo, "database", "snapshot", "create", "login", "--label", "first")
    fill(paths[LOGIN], chance, 100)
    ok(repo, "database", "snapshot", "create", "login")
    git(repo, "branch", "-D", "old")
    ok(repo, "reconcile")
    before = everything(home)
    assert len(before) == 5
    moved(repo, "--url", pg.url())
    assert not [path for path in everything(home) if "/moved/" not in path]
    moved(repo, "--forget")
    moved(repo, "--directory", str(tmp_path / "again"))
    after = everything(tmp_path / "again")
    assert sorted(after.values()) == sorted(before.values())
    kept = json.loads(ok(repo, "database", "snapshot", "list", "login", "--json"))
    ok(repo, "database", "restore", "login", kept[-1]["id"], "--yes")
    ok(repo, "database", "recover", next(row["name"] for row in rows(repo) if row["timeline"] == "git-branch/old"))


def fill(path: str, chance: random.Random, entries: int) -> None:
    """Random keys, values, encodings, expiries and messages; of one message it looks as if it were being handled."""
    store = SqliteStore(path)
    stored = [
        (b"\x02" + chance.randbytes(chance.randint(1, 200)), chance.randbytes(chance.randint(0, 300)),
         chance.choice((1, 2, 3)), None, chance.choice((-1, 4_000_000_000_000 + chance.randrange(10**6))))
        for _ in range(entries)
    ]  # fmt: skip
    store.load(sorted(stored), keep=False, after=None, to_end=False)
    messages = tuple(
        Enqueue(chance.randbytes(20), 4_000_000_000_000 + number, (b"\x02dead\x00",) * (number % 2), (1, 2, 3))
        for number in range(10)
    )
    store.write([AtomicWrite((), (Mutation(MutationKind.DELETE, stored[0][0]),), messages)])
    store.close()


def everything(directory: Path) -> dict[str, str]:
    """What is in each database file below a directory, as its entries, messages and version."""
    found = {}
    for path in sorted(directory.rglob("kv.sqlite3")):
        if path.is_symlink() or "spare" in path.parts or "moved" in path.parts:
            continue
        store = SqliteStore(path, must_exist=True)
        with store.moment() as moment:
            connection = moment.connection
            messages = connection.execute(
                "select ts, id, cast(data as blob), backoff_schedule, cast(keys_if_undelivered as blob) from queue"
            ).fetchall()
            found[str(path)] = repr((list(moment.rows()), sorted(messages), moment.version))
        store.close()
    return found


def test_new_branches_and_forks_go_where_they_belong_while_it_is_moved(tmp_path: Path, pg: PgServer) -> None:
    repo = shop(tmp_path / "shop", "login", "cart")
    for row in rows(repo):
        put(row["path"], row["timeline"])
    killed(repo, "move.put-away", "instance", "move", "default", "--url", pg.url(), "--yes")
    before = {row["timeline"]: row["path"] for row in rows(repo)}
    (gone,) = [timeline.removeprefix("git-branch/") for timeline, path in before.items() if path is None]
    for source, name in (("production", "here"), (gone, "there")):
        ok(repo, "assign", "default", "shop", "--new-branch", f"fork:{source}")
        add_branches(repo, name)
        ok(repo, "reconcile")
    assert database_of(repo, "git-branch/here")["path"] is not None  # as what it is a fork of
    assert database_of(repo, "git-branch/there")["path"] is None
    ok(repo, "assign", "default", "shop", "--new-branch", "empty")
    add_branches(repo, "empty")
    ok(repo, "reconcile")
    assert database_of(repo, "git-branch/empty")["path"] is None
    for command in (
        ("instance", "edit", "default", "--name", "other"),
        ("instance", "delete", "default", "--yes"),
        ("instance", "move", "default", "--directory", str(tmp_path / "third")),
    ):
        assert "is being moved to" in refused(repo, *command)
    assert "in two locations" in refused(repo, "database", "fork", "production", gone, "--yes")
    assert "3 of 6 databases there. To continue, run: provisioner instance move default" in ok(repo, "status")
    assert "is being moved" in ok(repo, "instance", "show", "default")
    assert "is being moved" in provisioner(repo, "doctor").stdout
    ok(repo, "instance", "move", "default", "--back", "--yes")
    there = {row["timeline"]: row["path"] for row in rows(repo)}
    assert None not in there.values()
    assert got(there["git-branch/here"]) == "production"
    assert got(there["git-branch/there"]) == got(there[f"git-branch/{gone}"]) == f"git-branch/{gone}"
    assert "is being moved" not in ok(repo, "status")


def test_what_is_in_error_stays_and_is_moved_once_it_is_mended(tmp_path: Path, pg: PgServer) -> None:
    repo = shop(tmp_path / "shop", "login", "cart")
    path = Path(database_of(repo, LOGIN)["path"])
    kept = path.read_bytes()
    path.write_bytes(b"nothing that anybody could read")
    provisioner(repo, "reconcile")
    said = refused(repo, "instance", "move", "default", "--url", pg.url(), "--yes")
    assert "1 database of default could not be moved" in said
    assert {row["timeline"]: row["path"] is None for row in rows(repo)}[LOGIN] is False
    path.write_bytes(kept)
    ok(repo, "database", "fix", "--all")
    moved(repo)
    assert {row["path"] for row in rows(repo)} == {None}


def test_it_says_why_it_cannot_be_moved(tmp_path: Path, pg: PgServer) -> None:
    repo = shop(tmp_path / "shop")
    where = rows(repo)[0]["path"].partition("/live/")[0]
    assert "not two directories beside each other" in refused(
        repo, "instance", "move", "default", "--directory", f"{where}/in", "--yes"
    )
    assert "add --url" in refused(repo, "instance", "move", "default").lower()
    gone = pg.url().replace(f":{pg.port}/", ":1/")
    quorum = ("--url", pg.url(), "--require-quorum", "2", "--yes")
    assert "does not keep every write on 2 nodes" in refused(repo, "instance", "move", "default", *quorum)
    assert "refuses connections" in refused(repo, "instance", "move", "default", "--url", gone, "--yes")
    ok(repo, "assign", "default", "shop", "--connect", "file")
    assert "assign --connect auto" in refused(repo, "instance", "move", "default", "--url", pg.url(), "--yes")
    ok(repo, "assign", "default", "shop", "--connect", "auto")
    moved(repo, "--url", pg.url())
    other = pg.url().replace("127.0.0.1", "localhost")
    third = ("--directory", str(tmp_path / "third"))
    assert "Delete it first" in refused(repo, "instance", "move", "default", *third, "--yes")
    moved(repo, "--forget")
    assert "the same server" in refused(repo, "instance", "move", "default", "--url", other, "--yes")


def test_files_go_to_another_directory_and_back(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    for row in rows(repo):
        put(row["path"], row["timeline"])
    home = rows(repo)[0]["path"].partition("/live/")[0]
    moved(repo, "--directory", str(tmp_path / "disk"))
    assert all(row["path"].startswith(str(tmp_path / "disk")) for row in rows(repo))
    moved(repo, "--directory", home)
    assert all(row["path"].startswith(home) for row in rows(repo))
    moved(repo, "--forget")
    assert not list(tmp_path.glob("**/moved"))


def test_where_the_disk_is_full_programs_go_on_where_they_are(tmp_path: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    store = SqliteStore(database_of(repo, LOGIN)["path"])
    large = [(b"\x02" + b"%05d" % number, bytes(60_000), 1, None, -1) for number in range(700)]
    store.load(large, keep=False, after=None, to_end=False)
    store.close()
    with small_disk(tmp_path / "disk", "size=32m") as disk, serving(), writing(repo, "main", "login") as writers:
        said = refused(repo, "instance", "move", "default", "--directory", str(disk / "kv"), "--yes")
        assert "disk full" in said
        for writer in writers:
            writer.goes_on()
        ok(repo, "instance", "move", "default", "--back", "--yes")
        for writer in writers:
            writer.goes_on()


@pytest.mark.skipif(not LONG, reason="a server more, for the long run")
def test_from_one_server_to_another(tmp_path: Path, pg: PgServer) -> None:
    repo = shop(tmp_path / "shop", "login")
    with pg_running() as other, serving(), writing(repo, "main", "login") as writers:
        moved(repo, "--url", pg.url())
        ok(repo, "database", "snapshot", "create", "login")
        moved(repo, "--forget")
        moved(repo, "--url", other.url())
        for writer in writers:
            writer.goes_on()
        moved(repo, "--forget")
        moved(repo, "--directory", str(tmp_path / "again"))


def test_a_move_that_is_over_is_not_gone_on_with(tmp_path: Path, home: Path) -> None:
    repo = shop(tmp_path / "shop", "login")
    killed(repo, "move.put-away", "instance", "move", "default", "--directory", str(tmp_path / "disk"), "--yes")
    with Registry.open(Home(str(home))) as registry:
        asked = move(registry, find(registry, "default"), StorageTarget(), back=False, forget=False)
        moved(repo)
        before = everything(tmp_path / "disk")
        with pytest.raises(ProvisionerError, match="no longer being moved"):
            list(asked.do(NULL_REPORTER))
    assert everything(tmp_path / "disk") == before
    assert len(before) == 2
