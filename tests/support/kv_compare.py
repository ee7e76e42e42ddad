"""Run the same operations on two databases and compare the answers and what is stored."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from typing import Any

from kv_notation import canonical, notation
from kv_oracle import OracleError
from kv_ours import kinds_for
from kv_strategies import spelt_one_way

from provisioner.kv.codec import key as keys

SEQUENCES = 5_000 if "KV_NIGHTLY" in os.environ else 50

HEADER = b"\xff\x0f"  # of V8's format, version 15, which ours writes; Deno 2.9 writes 16

STAMP = re.compile(r"[0-9a-f]{20}")

CHANGES = {"sum", "min", "max", "mutate"}

TOLERANCE = 5_000  # milliseconds between the same operation on both sides


@dataclass(slots=True)
class Watched:
    keys: list[Any]
    entries: list[Any]


def stamps(entries: list[Any]) -> list[str | None]:
    return [entry["versionstamp"] for entry in entries]


class Side:
    """One database under test with what it answered so far."""

    def __init__(self, target: Any, **arguments: str) -> None:
        self._target = target
        self._arguments = arguments
        self.stamps: list[str] = []
        self.cursor = ""
        self.watches: dict[str, Watched] = {}

    def run(self, command: dict[str, Any]) -> Any:
        """The canonical answer, or OracleError. Versionstamps are numbered as they were given."""
        if command["op"] == "watch":
            answer = self._watch(command)
        elif command["op"] == "latest":
            answer = self._latest(command["name"])
        else:
            answer = self._send(**self._filled(command))
        if isinstance(answer, dict):
            if stamp := answer.get("ok") and answer.get("versionstamp"):
                self.stamps.append(stamp)
            if isinstance(answer.get("cursor"), str):
                self.cursor = answer["cursor"]
            elif "cursor" in answer:
                answer["cursor"] = "error"
        return self.numbered(canonical(answer))

    def _send(self, op: str, **command: Any) -> Any:
        return self._target.send(op, **self._arguments, **command)

    def _watch(self, command: dict[str, Any]) -> Any:
        name = command["name"]
        if name in self.watches:
            self.unwatch(name)
        self._send(**command)
        state = self._send("next", name=name)
        if "done" not in state:
            self.watches[name] = Watched(command["keys"], state["entries"])
        return state

    def _latest(self, name: str) -> Any:
        watched = self.watches.get(name)
        if watched is None:
            return None
        now = self._send("getMany", keys=watched.keys)
        while stamps(watched.entries) != stamps(now):
            watched.entries = self._send("next", name=name, timeout=60_000)["entries"]
        return watched.entries

    def unwatch(self, name: str) -> None:
        del self.watches[name]
        self._send("unwatch", name=name)

    def _filled(self, json: Any, key: Any = None) -> Any:
        if isinstance(json, list):
            return [self._filled(item) for item in json]
        if not isinstance(json, dict):
            return json
        match json.get("$"):
            case "cursor":
                return self.cursor
            case "stamp":
                return self.stamps[json["v"] % len(self.stamps)] if self.stamps else "0" * 20
            case "now":
                return self._send("get", key=key)["versionstamp"]
        return {name: self._filled(item, json.get("key")) for name, item in json.items()}

    def numbered(self, json: Any) -> Any:
        """With each versionstamp, also within keys and cursors, as its number."""
        if isinstance(json, list):
            return [self.numbered(item) for item in json]
        if isinstance(json, dict):
            return {name: self._plain(item) if name == "cursor" else self.numbered(item) for name, item in json.items()}
        return self._number(json) if isinstance(json, str) else json

    def _number(self, text: str) -> str:
        return STAMP.sub(lambda found: f"#{self.stamps.index(found[0])}" if found[0] in self.stamps else found[0], text)

    def _plain(self, cursor: str) -> str:
        try:
            return self._number(base64.b64decode(cursor, b"-_", validate=True).decode("latin-1"))
        except ValueError:
            return cursor


def answered(side: Side, command: dict[str, Any]) -> Any:
    try:
        return side.run(command)
    except OracleError as error:
        return error


def compare(command: dict[str, Any], theirs: Any, ours: Any) -> None:
    if isinstance(theirs, OracleError):
        assert isinstance(ours, OracleError), f"{command}: {theirs}, and ours gives {ours}"
        assert ours.kind in kinds_for(theirs), f"{command}: {theirs}, and ours raises {ours}"
        return
    assert not isinstance(ours, OracleError), f"{command}: {theirs}, and ours raises {ours}"
    assert ours == theirs, f"{command}: {theirs}, and ours gives {ours}"


def compare_rows(theirs: Side, their_rows: list[dict[str, Any]], ours: Side, our_rows: list[dict[str, Any]]) -> None:
    assert len(their_rows) == len(our_rows)
    for their, our in zip(their_rows, our_rows, strict=True):
        key = [notation(part) for part in keys.decode(their["k"])]
        assert our.keys() == their.keys()
        assert ours.numbered(our["k"].decode("latin-1")) == theirs.numbered(their["k"].decode("latin-1"))
        assert stamp_of(ours, our) == stamp_of(theirs, their), key
        assert (our["v_encoding"], our["seq"]) == (their["v_encoding"], their["seq"]), key
        assert (our["expiration_ms"] < 0) == (their["expiration_ms"] < 0), key
        assert abs(our["expiration_ms"] - their["expiration_ms"]) < TOLERANCE, key
        compare_values(key, their, our)


def stamp_of(side: Side, row: dict[str, Any]) -> str:
    return str(side.numbered(row["version"].to_bytes(8, "big").hex() + "0000"))


def compare_values(key: Any, their: dict[str, Any], our: dict[str, Any]) -> None:
    from provisioner.kv.codec import value

    wanted = HEADER + their["v"][2:] if their["v_encoding"] == 1 else their["v"]
    assert our["v"] == wanted or not spelt_one_way(notation(value.decode(their["v"], their["v_encoding"]))), key


def compare_messages(theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> None:
    assert len(theirs) == len(ours)
    order = lambda row: (row["ts"] // (10 * TOLERANCE), row["data"][2:])  # noqa: E731
    for their, our in zip(sorted(theirs, key=order), sorted(ours, key=order), strict=True):
        assert our["backoff_schedule"] == their["backoff_schedule"]
        assert our["keys_if_undelivered"] == their["keys_if_undelivered"]
        assert type(our["keys_if_undelivered"]) is type(their["keys_if_undelivered"])
        assert len(our["id"]) == len(their["id"])
        assert abs(our["ts"] - their["ts"]) < TOLERANCE
