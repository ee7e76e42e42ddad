"""Run the same operations by real Deno on a file and through the server, and compare."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kv_compare import CHANGES, TOLERANCE, Side, answered, stamp_of
from kv_files import restore, rows
from kv_oracle import Oracle, OracleError

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
