"""A full disk is an error that says so, and ends no process: SQLite maps `-shm`, whose pages btrfs would write anew."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import connect_wire as wire
import pytest
import urllib3
from connect_world import QUIET, access, deno_command, serving
from small_disks import SIZES, disk, fill
from support import add_branches, got, ok, provisioner, put, repository, rows

from provisioner.registry.store import Registry
from provisioner.system.home import Home

ROUNDS = 20 if "KV_NIGHTLY" in os.environ else 1
WRITE = """
const kv = await Deno.openKv(Deno.args[0]);
await kv.set(["mark"], 0);
console.log("ready");
for await (const _ of Deno.stdin.readable) break;
let done = 0, refused = 0;
while (refused < 20 && done < 3000) {
  try { await kv.set(["key", done], new Uint8Array(30_000)); done++; } catch { refused++; }
}
let found = 0;
for await (const _ of kv.list({ prefix: ["key"] })) found++;
console.log(done, refused, found);
Deno.exit(0);
"""


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_full_disk_ends_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, number: int) -> None:
    leave = random.Random(number).randrange(0, 4 << 20)
    with disk(kind, tmp_path) as directory, ExitStack() as stack:
        home = directory / "home"
        monkeypatch.setenv("PROVISIONER_HOME", str(home))
        repo = repository(tmp_path / "shop", "login", "cart")
        ok(repo, "init", "--no-hooks", "--name", "shop")
        paths = {row["timeline"]: row["path"] for row in rows(repo)}
        put(paths["production"], "precious")
        writer = stack.enter_context(_writer(paths["git-branch/cart"], tmp_path))
        server = stack.enter_context(serving(home))
        reached = access(repo, "login")
        client = stack.enter_context(wire.Wire())
        path = client.opened(reached.url, reached.token)
        url = path.url("atomic_write")
        assert client.send(url, wire.put(b"\x02first\0", b"x"), path.headers()).status == 200

        filler = fill(directory, leave)
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
        answers = [_sent(client, url, wire.put(b"\x02%d\0" % item, b"x" * 30_000), path) for item in range(100)]
        add_branches(repo, *(f"b{item}" for item in range(20)))
        ended = {provisioner(repo, *words).returncode for words in (("reconcile",), ("status",), ("doctor",)) * 2}
        printed, _ = writer.communicate(timeout=120)
        assert [_end(writer), _end(server.process), *map(_name, sorted(ended))] == ["0", "running", "0", "1"]
        assert set(answers) <= {200, 409, 422, 503}
        done, _, found = printed.split()[-3:]
        assert done == found

        filler.unlink()
        assert client.send(url, wire.put(b"\x02last\0", b"x"), path.headers()).status == 200
        ok(repo, "database", "fix", "--all")
        assert got(paths["production"]) == "precious"


def _sent(client: wire.Wire, url: str, body: bytes, path: wire.Path) -> int:
    """The status of the answer; 0 if the server does not answer."""
    try:
        return client.send(url, body, path.headers()).status
    except urllib3.exceptions.HTTPError:
        return 0


def _end(process: subprocess.Popen[Any] | None) -> str:
    assert process is not None
    code = process.poll()
    return "running" if code is None else _name(code)


def _name(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else str(code)


@contextmanager
def _writer(path: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that has opened its database, and writes when it is told to."""
    program = directory / "write.ts"
    program.write_text(WRITE)
    process = subprocess.Popen(
        deno_command(program, path),
        env={**os.environ, **QUIET},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_btrfs_overwrites_in_place_what_a_home_maps_into_memory(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log's index of a registry, in a home and in one that follows it: what is left of it when its process is killed."""
    repo = repository(tmp_path / "shop")
    with disk("btrfs", tmp_path) as directory:
        monkeypatch.setenv("PROVISIONER_HOME", str(directory / "home"))
        ok(repo, "init", "--no-hooks")
        with Registry.open(Home(str(directory / "home"))):
            assert _in_place(directory / "home" / "registry.db-shm")
        leading = ("env", f"PROVISIONER_HOME={directory / 'home'}", "provisioner", "home", "copy")
        monkeypatch.setenv("PROVISIONER_HOME", str(directory / "follower"))
        for _ in range(2):  # made, and received once more
            (directory / "follower" / "registry.db-shm").unlink(missing_ok=True)
            killed = provisioner(
                repo, "home", "follow", "--once", "--", *leading, add={"PROVISIONER_FAULT": "follow.written"}
            )
            assert killed.returncode == -signal.SIGKILL, killed
            assert _in_place(directory / "follower" / "registry.db-shm")
        ok(repo, "home", "follow", "--once", "--", *leading)
        with Registry.open(Home(str(directory / "follower"))):
            assert _in_place(directory / "follower" / "registry.db-shm")


def _in_place(path: Path) -> bool:
    return "C" in subprocess.run(["lsattr", path], capture_output=True, text=True, check=True).stdout.split()[0]
