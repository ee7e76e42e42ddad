"""The same operations by real Deno on a file of its own and through the server: results, words, cursors and stored bytes agree.

The sequences of test_kv_differential.py without queues, which Deno does not offer over the network. 60 of them; 5,000 with
KV_NIGHTLY in the environment.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from connect_world import access, serving
from hypothesis import given
from kv_files import integrity, restore, rows
from kv_oracle import Oracle, OracleError
from kv_sequences import searching, sequences
from support import files, shop
from test_kv_differential import CHANGES, TOLERANCE, Side, answered, stamp_of

SEQUENCES = 5_000 if "KV_NIGHTLY" in os.environ else 60

# Deno says this before the server's text, and has one class for all of it.
SAID = re.compile(r"KV Connect failed to call '.*' \(status=400 Bad Request\): (.*)", re.DOTALL)


def without_queues(commands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nor watches of no key, which end at once on a file and never say anything over the network."""
    kept = [command for command in commands if command["op"] != "enqueue" and command.get("keys") != []]
    return [
        {**command, "steps": [step for step in command["steps"] if step["do"] != "enqueue"]}
        if "steps" in command
        else command
        for command in kept
    ]


def said(error: OracleError) -> tuple[str, str]:
    over_the_network = SAID.fullmatch(error.message)
    return ("TypeError", over_the_network[1]) if over_the_network else (error.kind, error.message)


def compare(command: dict[str, Any], theirs: Any, ours: Any) -> None:
    if isinstance(theirs, OracleError) and isinstance(ours, OracleError):
        assert said(ours) == said(theirs), command
    else:
        assert ours == theirs, f"{command}: {theirs!r}, and the server gives {ours!r}"


def compare_rows(theirs: Side, their_rows: list[dict[str, Any]], ours: Side, our_rows: list[dict[str, Any]]) -> None:
    assert len(their_rows) == len(our_rows)
    for their, our in zip(their_rows, our_rows, strict=True):
        assert ours.numbered(our["k"].decode("latin-1")) == theirs.numbered(their["k"].decode("latin-1"))
        assert stamp_of(ours, our) == stamp_of(theirs, their), our
        assert (our["v"], our["v_encoding"], our["seq"]) == (their["v"], their["v_encoding"], their["seq"])
        assert (our["expiration_ms"] < 0) == (their["expiration_ms"] < 0), our
        assert abs(our["expiration_ms"] - their["expiration_ms"]) < TOLERANCE, our


Rows = Callable[[], list[dict[str, Any]]]


def run(oracle: Oracle, remote: Oracle, their_file: Path, our_rows: Rows, commands: list[dict[str, Any]]) -> None:
    oracle.send("open", db="theirs", path=str(their_file))
    for entry in remote.send("list", prefix=[])["entries"]:
        remote.send("delete", key=entry["key"])
    theirs, ours = Side(oracle, db="theirs"), Side(remote)
    for command in commands:
        risky = any(step["do"] in CHANGES for step in command.get("steps", ()))
        before = {"kv": rows(their_file)} if risky else {}
        answer = answered(theirs, command)
        compare(command, answer, answered(ours, command))
        if isinstance(answer, OracleError) and before:
            restore(their_file, before)  # Deno leaves half of what failed by a type, and ours nothing
    for name in tuple(theirs.watches):
        latest = {"op": "latest", "name": name}
        compare(latest, answered(theirs, latest), answered(ours, latest))
        theirs.unwatch(name)
        ours.unwatch(name)
    everything = {"op": "list", "prefix": []}
    compare(everything, answered(theirs, everything), answered(ours, everything))
    oracle.send("close", db="theirs")
    compare_rows(theirs, rows(their_file), ours, our_rows())


@pytest.fixture
def our_file(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """Where the server has a database, and its file."""
    repository = shop(tmp_path / "shop", "login")
    with serving(home):
        login = access(repository, "login")
        monkeypatch.setenv("DENO_KV_ACCESS_TOKEN", login.token)
        yield login.url, files(repository)["login"]


@pytest.mark.timeout(900 + 2 * SEQUENCES)
def test_sequences_of_operations_do_the_same_on_a_file_and_through_the_server(our_file: tuple[str, Path]) -> None:
    started = time.monotonic()
    count = 0
    url, file = our_file
    with Oracle() as oracle, Oracle() as remote:
        remote.send("open", path=url)

        @searching(SEQUENCES)
        @given(sequences())
        def agree(commands: list[dict[str, Any]]) -> None:
            nonlocal count
            count += 1
            with tempfile.TemporaryDirectory() as directory:
                run(oracle, remote, Path(directory) / "theirs.sqlite3", partial(rows, file), without_queues(commands))

        agree()
    assert integrity(file) == "ok"
    print(f"{count} sequences agreed in {time.monotonic() - started:.0f} s")
