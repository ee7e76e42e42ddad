"""Python values from and to the notation of tests/kv_oracle.py, by the documented table of `provisioner.kv`."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from v8serialize.jstypes import (
    JSArray,
    JSArrayBuffer,
    JSBigInt,
    JSError,
    JSHole,
    JSMap,
    JSObject,
    JSPrimitiveObject,
    JSSet,
    JSTypedArray,
    jsbuffers,
)

from provisioner.kv.model import COMMIT_VERSIONSTAMP, SAFE_INTEGER, UNDEFINED, BigInt, JSDate, KvU64, RegExp

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)


class Odd:
    """Stands for a symbol or a function: what no value may be."""


def key_of(parts: Any) -> Any:
    """A key in the notation as a tuple; what is no list as it is."""
    return tuple(value_of(part) for part in parts) if isinstance(parts, list) else value_of(parts)


def value_of(json: Any, seen: list[Any] | None = None) -> Any:
    """The Python value of the notation. `seen` are the containers that were opened before."""
    seen = [] if seen is None else seen
    if isinstance(json, list):
        return _list_of(json, seen)
    if not isinstance(json, dict):
        return json
    if json["$"] == "ref":
        return seen[json["v"]]
    if (leaf := _LEAVES.get(json["$"])) is not None:
        return leaf(json)
    return _container_of(json, seen)


def _boxed_of(json: Any) -> Any:
    inner = value_of(json["v"])
    return JSPrimitiveObject(JSBigInt(inner) if isinstance(inner, BigInt) else inner)


def _view_of(json: Any) -> Any:
    return getattr(jsbuffers, "JS" + json["type"])(JSArrayBuffer(bytes.fromhex(json["v"])))


_LEAVES: dict[str, Callable[[Any], Any]] = {
    "undefined": lambda _: UNDEFINED,
    "number": lambda json: float(json["v"]),
    "bigint": lambda json: BigInt(json["v"]),
    "u64": lambda json: KvU64(int(json["v"])),
    "bytes": lambda json: bytes.fromhex(json["v"]),
    "date": lambda json: _date_of(value_of(json["v"])),
    "regexp": lambda json: RegExp(json["source"], json["flags"]),
    "versionstamp": lambda _: COMMIT_VERSIONSTAMP,
    "symbol": lambda _: Odd(),
    "function": lambda _: Odd(),
    "buffer": lambda json: JSArrayBuffer(bytes.fromhex(json["v"])),
    "boxed": _boxed_of,
    "view": _view_of,
    "error": lambda json: JSError(json["message"], name=json["name"], stack=json["stack"]),
}


def _container_of(json: dict[str, Any], seen: list[Any]) -> Any:
    v = json["v"]
    into: Any
    match json["$"]:
        case "object":
            into = {}
            seen.append(into)
            for name, item in v:
                into[name] = value_of(item, seen)
        case "map":
            into = JSMap()
            seen.append(into)
            for key, item in v:
                name = value_of(key, seen)
                into[name] = value_of(item, seen)
        case "set":
            into = JSSet()
            seen.append(into)
            for item in v:
                into.add(value_of(item, seen))
        case other:
            raise AssertionError(f"not in the notation: {other}")
    return into


def _list_of(json: list[Any], seen: list[Any]) -> Any:
    holes = {"$": "hole"} in json
    into: Any = JSArray() if holes else []
    append = into.array.append if holes else into.append
    seen.append(into)
    for item in json:
        append(JSHole if item == {"$": "hole"} else value_of(item, seen))
    return into


def _date_of(milliseconds: float) -> Any:
    try:
        return EPOCH + int(milliseconds) * MILLISECOND
    except (ValueError, OverflowError):
        return JSDate(milliseconds)


def number(value: float) -> Any:
    """The notation of a JavaScript number."""
    if value != value:
        return {"$": "number", "v": "NaN"}
    if abs(value) == float("inf"):
        return {"$": "number", "v": "Infinity" if value > 0 else "-Infinity"}
    if value == 0 and str(value)[0] == "-":
        return {"$": "number", "v": "-0"}
    if value == int(value) and abs(value) <= SAFE_INTEGER:
        return int(value)
    return {"$": "number", "v": float(value).hex()}


def canonical(json: Any) -> Any:
    """The notation with one spelling for each number, and the items of sets in one order."""
    if isinstance(json, list):
        return [canonical(item) for item in json]
    if isinstance(json, dict):
        if json.get("$") == "number":
            return number(float.fromhex(json["v"]) if "0x" in json["v"] else float(json["v"]))
        found = {name: canonical(item) for name, item in json.items()}
        if found.get("$") == "set":
            found["v"] = sorted(found["v"], key=repr)
        return found
    return json


def notation(value: Any, seen: dict[int, int] | None = None) -> Any:
    """The notation of a Python value, spelt canonically but for the order in sets."""
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    for kinds, spelling in _SPELLINGS:
        if isinstance(value, kinds):
            return spelling(value)
    seen = {} if seen is None else seen
    if id(value) in seen:
        return {"$": "ref", "v": seen[id(value)]}
    seen[id(value)] = len(seen)
    return _notation_of_container(value, seen)


def _view(value: Any) -> Any:
    with value.get_buffer() as view:
        return {"$": "view", "type": type(value).__name__.removeprefix("JS"), "v": bytes(view).hex()}


def _error(value: Any) -> Any:
    return {"$": "error", "name": str(value.name), "message": value.message, "stack": value.stack}


# The first that fits: some of these kinds are also others of them.
_SPELLINGS: list[tuple[Any, Callable[[Any], Any]]] = [
    (type(UNDEFINED), lambda _: {"$": "undefined"}),
    (type(JSHole), lambda _: {"$": "hole"}),
    (KvU64, lambda value: {"$": "u64", "v": str(value)}),
    ((BigInt, JSBigInt), lambda value: {"$": "bigint", "v": str(int(value))}),
    (JSDate, lambda value: {"$": "date", "v": number(float(value))}),
    ((int, float), lambda value: number(value)),
    (bytes, lambda value: {"$": "bytes", "v": value.hex()}),
    (datetime.datetime, lambda value: {"$": "date", "v": (value - EPOCH) // MILLISECOND}),
    (RegExp, lambda value: {"$": "regexp", "source": value.source, "flags": value.flags}),
    (JSPrimitiveObject, lambda value: {"$": "boxed", "v": notation(value.value)}),
    (JSArrayBuffer, lambda value: {"$": "buffer", "v": bytes(value.data).hex()}),
    (JSTypedArray, _view),
    (JSError, _error),
]


def _notation_of_container(value: Any, seen: dict[int, int]) -> Any:
    if isinstance(value, (list, tuple)):
        return [notation(item, seen) for item in value]
    if isinstance(value, JSArray):
        return [notation(item, seen) for item in value.array]
    if isinstance(value, (dict, JSObject)):
        return {"$": "object", "v": [[str(name), notation(item, seen)] for name, item in value.items()]}
    if isinstance(value, JSMap):
        return {"$": "map", "v": [[notation(name, seen), notation(item, seen)] for name, item in value.items()]}
    if isinstance(value, (set, frozenset, JSSet)):
        return {"$": "set", "v": [notation(item, seen) for item in value]}
    raise AssertionError(f"a {type(value)} came out: {value!r}")
