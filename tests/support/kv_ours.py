"""The commands of tests/kv_oracle.ts, run by `provisioner.kv`: the same arguments, results and errors in one notation."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kv_notation import key_of, notation, value_of
from kv_oracle import OracleError

from provisioner.kv import BigInt, CommitFailed, CommitResult, Kv, KvEntry, KvError, KvU64
from provisioner.kv.client.sync_client import KvWatch
from provisioner.kv.model import UNDEFINED

NAMES = {
    "expireIn": "expire_in",
    "batchSize": "batch_size",
    "backoffSchedule": "backoff_schedule",
    "keysIfUndelivered": "keys_if_undelivered",
}
KEYS = {"prefix", "start", "end"}

# What Deno says, and the class that ours has for it. Deno knows little more than TypeError.
KINDS = {
    r"too large for|Value too large|payload too large|^Too many|^Total .* too large": {"LimitExceeded"},
    r"cannot be empty|expected string, number, bigint|more than 255 bytes|expected: array": {"KeyInvalid"},
    r"^Start key|^End key|^Selector ": {"KeyInvalid"},
    r"^Limit must|^batchSize must|expireIn|^Delay|backoffSchedule|unknown variant": {"OptionInvalid"},
    r"cursor": {"CursorInvalid"},
    r"could not be cloned|^Value must": {"ValueInvalid"},
    r"Invalid check": {"ValueInvalid", "KeyInvalid"},
    r"Some of the parameters|non-U64 operand": {"ValueInvalid", "TypeMismatch"},
    r"non-U64 value in|^Cannot sum|unsupported value type": {"TypeMismatch"},
    r"Bad resource": {"Closed"},
}


def kinds_for(error: OracleError) -> set[str]:
    """The classes that ours may raise where Deno raised this."""
    for pattern, kinds in KINDS.items():
        if re.search(pattern, error.message):
            return kinds
    raise AssertionError(f"nobody said what ours is for {error}")


def _options(command: dict[str, Any], *names: str) -> dict[str, Any]:
    found = {}
    for name in names:
        if name not in command:
            continue
        value = key_of(command[name]) if name in KEYS else value_of(command[name])
        if value is UNDEFINED:
            continue
        found[NAMES.get(name, name)] = value
    return found


def _entry(entry: KvEntry[Any]) -> dict[str, Any]:
    stamp = None if entry.versionstamp is None else str(entry.versionstamp)
    return {"key": [notation(part) for part in entry.key], "value": notation(entry.value), "versionstamp": stamp}


class Ours:
    """One open database that answers commands as `Oracle` does; our errors' classes stand for Deno's constructors."""

    def __init__(self, kv: Kv) -> None:
        self._kv = kv
        self._watches: dict[str, KvWatch] = {}

    def send(self, op: str, **command: Any) -> Any:
        run: Callable[[dict[str, Any]], Any] = getattr(self, f"_{op}")
        try:
            return run(command)
        except KvError as error:
            raise OracleError(type(error).__name__, str(error)) from error

    def _get(self, command: dict[str, Any]) -> Any:
        return _entry(self._kv.get(key_of(command["key"]), **_options(command, "consistency")))

    def _getMany(self, command: dict[str, Any]) -> Any:  # noqa: N802 the command's name
        keys = [key_of(key) for key in command["keys"]]
        return [_entry(entry) for entry in self._kv.get_many(keys, **_options(command, "consistency"))]

    def _set(self, command: dict[str, Any]) -> Any:
        key, value = key_of(command["key"]), value_of(command["value"])
        return _result(self._kv.set(key, value, **_options(command, "expireIn")))

    def _delete(self, command: dict[str, Any]) -> Any:
        self._kv.delete(key_of(command["key"]))

    def _list(self, command: dict[str, Any]) -> Any:
        names = ("prefix", "start", "end", "limit", "reverse", "cursor", "batchSize", "consistency")
        iterator = self._kv.list(**_options(command, *names))
        entries: list[Any] = []
        take = command.get("take")
        done = False
        while take is None or len(entries) < take:
            entry = next(iterator, None)
            if entry is None:
                done = True
                break
            entries.append(_entry(entry))
        try:
            cursor: Any = iterator.cursor
        except KvError as error:
            cursor = {"error": type(error).__name__}
        return {"entries": entries, "cursor": cursor, "done": done}

    def _enqueue(self, command: dict[str, Any]) -> Any:
        return self._atomic({"steps": [{**command, "do": "enqueue"}]})

    def _watch(self, command: dict[str, Any]) -> Any:
        self._watches[command["name"]] = self._kv.watch([key_of(key) for key in command["keys"]])

    def _next(self, command: dict[str, Any]) -> Any:
        entries = next(self._watches[command["name"]], None)
        return {"done": True} if entries is None else {"entries": [_entry(entry) for entry in entries]}

    def _unwatch(self, command: dict[str, Any]) -> Any:
        self._watches.pop(command["name"]).close()

    def _atomic(self, command: dict[str, Any]) -> Any:
        operation = self._kv.atomic()
        expected = []
        for step in command["steps"]:
            if step["do"] == "check":
                key, stamp = key_of(step["key"]), step["versionstamp"]
                operation.check((key, stamp))
                expected.append(not key or self._kv.get(key).versionstamp != (stamp and stamp.lower()))
            else:
                self._add(operation, step)
        result = operation.commit()
        if isinstance(result, CommitFailed):
            assert result.failed == tuple(i for i, fails in enumerate(expected) if fails)
        return _result(result)

    def _add(self, operation: Any, step: dict[str, Any]) -> None:
        do = step["type"] if step["do"] == "mutate" else step["do"]
        options = _options(step, "expireIn", "delay", "backoffSchedule", "keysIfUndelivered")
        if do == "enqueue":
            if "keys_if_undelivered" in options:
                options["keys_if_undelivered"] = [key_of(key) for key in step["keysIfUndelivered"]]
            operation.enqueue(value_of(step["value"]), **options)
            return
        key = key_of(step["key"])
        if do == "delete":
            operation.delete(key)
        elif do == "set":
            operation.set(key, value_of(step["value"]), **options)
        else:
            getattr(operation, do)(key, _operand(step))

    def close(self) -> None:
        self._kv.close()


def _operand(step: dict[str, Any]) -> Any:
    """Deno's `sum(key, 1n)` is `sum(key, 1)`; its V8 forms take a float or a BigInt."""
    value = value_of(step["value"])
    if step["do"] == "mutate":
        return float(value) if type(value) is int else value
    return int(value) if isinstance(value, BigInt) and not isinstance(value, KvU64) else value


def _result(result: CommitResult | CommitFailed) -> Any:
    if isinstance(result, CommitFailed):
        return {"ok": False}
    return {"ok": True, "versionstamp": str(result.versionstamp)}
