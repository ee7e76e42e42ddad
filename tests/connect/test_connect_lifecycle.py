"""Databases that are archived, brought back and renamed while clients write to them through the server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import connect_wire as wire
import pytest
from connect_world import Access, Server, access, serving
from kv_files import integrity
from kv_oracle import Oracle, OracleError
from support import database_of, files, git, ok, rows, shop, until

from provisioner.kv import open_kv

WRITERS = 16


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login", "cart")


@pytest.fixture
def server(home: Path, repository: Path) -> Iterator[Server]:
    with serving(home) as server:
        yield server


@dataclass(slots=True)
class Load:
    """Writers over HTTP/1.1 that end when they are refused for good, or told to. `answers` counts by status."""

    path: wire.Path
    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ending: threading.Event = field(default_factory=threading.Event)
    counts: list[int] = field(default_factory=lambda: [0] * WRITERS)
    refusals: list[wire.Answer] = field(default_factory=list)

    def write(self, writer: int) -> None:
        with wire.Wire(1) as client:
            while not self.ending.is_set():
                body = wire.put(b"\x02log\0\x02%d\0\x02%06d\0" % (writer, self.counts[writer]), b"x" * 100)
                answer = client.send(self.path.url("atomic_write"), body, self.path.headers())
                if answer.status == 200:
                    self.counts[writer] += 1
                    self.done.release()
                    continue
                self.refusals.append(answer)
                if answer.status != 503:
                    return

    def more(self, count: int) -> None:
        for _ in range(count):
            assert self.done.acquire(timeout=60)

    def all_there(self, file: Path) -> int:
        assert integrity(file) == "ok"
        with open_kv(file) as kv:
            stored = [sum(1 for _ in kv.list(("log", str(writer)), batch_size=1000)) for writer in range(WRITERS)]
        assert stored == self.counts
        return sum(stored)


@contextmanager
def loaded(to: Access) -> Iterator[tuple[Load, list[Future[None]]]]:
    with wire.Wire() as client:
        load = Load(client.opened(to.url, to.token))
    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(load.write, writer) for writer in range(WRITERS)]
        try:
            yield load, running
        finally:
            load.ending.set()
        for each in running:
            each.result(60)


@pytest.mark.timeout(180)
def test_an_archived_database_says_so_under_load_and_comes_back_whole(server: Server, repository: Path) -> None:
    login, cart = access(repository, "login"), access(repository, "cart")
    name = database_of(repository, "git-branch/login")["name"]
    tip = git(repository, "rev-parse", "login").stdout.strip()
    with loaded(login) as (load, running), wire.Wire() as client:
        other = client.opened(cart.url, cart.token)
        with client.watching(load.path, b"\x02log\0") as messages:
            next(messages)
            load.more(500)
            git(repository, "branch", "-q", "-D", "login")
            ok(repository, "reconcile")
            for each in running:
                each.result(60)
            assert list(messages) == []  # the stream has ended
        assert {answer.status for answer in load.refusals} <= {410, 503}
        last = client.send(load.path.url("snapshot_read"), wire.get(b"\x02log\0"), load.path.headers())
        assert last.status == 410
        assert f"database {name} is archived" in last.text
        assert client.metadata(login.url, login.token).status == 410
        assert client.send(other.url("snapshot_read"), wire.get(b"\x02a\0"), other.headers()).status == 200
        git(repository, "update-ref", "refs/heads/login", tip)
        ok(repository, "reconcile")
        until(lambda: client.metadata(login.url, login.token).status == 401)  # whoever has it now has another token
        now = access(repository, "login")
        assert now.url == login.url
        again = client.opened(now.url, now.token)
        first = client.send(again.url("snapshot_read"), wire.get(b"\x02log\0\x020\0\x02000000\0"), again.headers())
        assert b"x" * 100 in first.body
    print(f"{load.all_there(files(repository)['login'])} writes, then {len(load.refusals)} refusals")


def test_deno_shows_its_user_why(server: Server, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = access(repository, "login")
    monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", login.token)
    with Oracle() as oracle:
        oracle.send("open", path=login.url)
        oracle.send("set", key=["a"], value=1)
        git(repository, "branch", "-q", "-D", "login")
        ok(repository, "reconcile")

        def refused() -> bool:
            try:
                oracle.send("get", key=["a"])
            except OracleError as error:
                return "is archived" in error.message
            return False

        until(refused)


@pytest.mark.timeout(180)
def test_a_rename_of_the_branch_is_not_noticed_by_who_writes(server: Server, repository: Path) -> None:
    login = access(repository, "login")
    before = database_of(repository, "git-branch/login")["id"]
    with loaded(login) as (load, _):
        load.more(200)
        git(repository, "branch", "-m", "login", "signin")
        ok(repository, "reconcile")
        load.more(200)
    assert load.refusals == []
    assert database_of(repository, "git-branch/signin")["id"] == before
    assert access(repository, "signin").url == login.url
    assert [row["status"] for row in rows(repository)].count("archived") == 0
    print(f"{load.all_there(files(repository)['signin'])} writes")
