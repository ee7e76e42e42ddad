"""A watch of a real Deno through the server hears of every write, whoever makes it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from connect_world import Access, Server, access, serving
from kv_oracle import Oracle
from support import files, shop

from provisioner.kv import open_kv

WRITES = 30
SOON = 50 if "KV_NIGHTLY" in os.environ else 1000  # milliseconds; other tests may run beside


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", "login")


@pytest.fixture
def server(home: Path, repository: Path) -> Iterator[Server]:
    with serving(home) as server:
        yield server


@pytest.fixture
def login(server: Server, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    found = access(repository, "login")
    monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", found.token)
    return found


@pytest.fixture
def watcher(login: Access) -> Iterator[Oracle]:
    """A Deno that watches two keys, its first state read."""
    with Oracle() as oracle:
        oracle.send("open", path=login.url)
        oracle.send("watch", name="w", keys=[["key"], ["other"]])
        assert [entry["value"] for entry in seen(oracle)] == [None, None]
        yield oracle


def seen(oracle: Oracle, timeout: int = 20_000) -> list[dict[str, Any]]:
    """The next state that the watch gives."""
    entries: list[dict[str, Any]] = oracle.send("next", name="w", timeout=timeout)["entries"]
    return entries


def report(who: str, took: list[float]) -> None:
    took.sort()
    print(f"{who}: seen {statistics.median(took):.1f} ms after the acknowledgement (median), slowest {took[-1]:.1f} ms")
    assert statistics.median(took) < SOON


def test_it_hears_another_deno(watcher: Oracle, login: Access) -> None:
    took = []
    with Oracle() as writer:
        writer.send("open", path=login.url)
        for number in range(WRITES):
            stamp = writer.send("set", key=["key"], value=number)["versionstamp"]
            acknowledged = time.perf_counter()
            key, other = seen(watcher)
            took.append((time.perf_counter() - acknowledged) * 1000)
            assert (key["value"], key["versionstamp"], other["value"]) == (number, stamp, None)
    report("another Deno", took)


def test_it_hears_the_python_library_on_the_file(watcher: Oracle, repository: Path) -> None:
    took = []
    with open_kv(files(repository)["login"]) as kv:
        kv.set(("other",), "there")
        assert [entry["value"] for entry in seen(watcher)] == [None, "there"]
        for number in range(WRITES):
            stamp = kv.set(("key",), number).versionstamp
            acknowledged = time.perf_counter()
            key, other = seen(watcher)
            took.append((time.perf_counter() - acknowledged) * 1000)
            assert (key["value"], key["versionstamp"], other["value"]) == (number, stamp, "there")
        kv.delete(("key",))
        assert [entry["value"] for entry in seen(watcher)] == [None, "there"]
    report("the Python library", took)


def test_it_hears_a_deno_on_the_file(watcher: Oracle, repository: Path) -> None:
    with Oracle() as writer:
        writer.send("open", path=str(files(repository)["login"]))
        for number in range(WRITES):
            writer.send("set", key=["key"], value=number)
            assert seen(watcher)[0]["value"] == number


def test_it_hears_an_expiry_of_what_was_written_through_the_server(watcher: Oracle, login: Access) -> None:
    took = []
    for _ in range(3):
        due = time.perf_counter() + 0.2
        watcher.send("set", key=["key"], value="soon gone", expireIn=200)
        assert seen(watcher)[0]["value"] == "soon gone"
        assert seen(watcher)[0]["value"] is None
        took.append((time.perf_counter() - due) * 1000)
        assert took[-1] > -2
    report("an expiry", took)


def test_it_hears_an_expiry_of_what_was_written_to_the_file(watcher: Oracle, repository: Path) -> None:
    """The file tells nobody when something expires: the server looks within a minute. Here the library itself collects."""
    with open_kv(files(repository)["login"]) as kv:
        kv.set(("key",), "soon gone", expire_in=300)
        assert seen(watcher)[0]["value"] == "soon gone"
        assert seen(watcher, 90_000)[0]["value"] is None


def test_it_goes_on_when_the_server_comes_back(watcher: Oracle, server: Server, repository: Path) -> None:
    """A write that was made meanwhile is heard, and nothing that was shown is shown again."""
    watcher.send("set", key=["key"], value=1)
    assert seen(watcher)[0]["value"] == 1
    assert server.stop() == 0
    with open_kv(files(repository)["login"]) as kv:
        kv.set(("other",), 2)
    server.start()
    assert [entry["value"] for entry in seen(watcher)] == [1, 2]
    watcher.send("set", key=["key"], value=3)
    assert [entry["value"] for entry in seen(watcher)] == [3, 2]
