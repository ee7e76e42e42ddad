"""Hypothesis makes keys, values and sequences of operations, in the notation of tests/kv_oracle.py."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

Json = Any
Strategy = st.SearchStrategy[Json]


def _number(value: float) -> Json:
    if value.is_integer() and abs(value) < 2**53 and str(value) != "-0.0":
        return int(value)
    names = {math.inf: "Infinity", -math.inf: "-Infinity", 0: "-0"}
    return {"$": "number", "v": "NaN" if math.isnan(value) else names.get(value, repr(value))}


def _bigint(value: int) -> Json:
    return {"$": "bigint", "v": str(value)}


def u64(value: int) -> Json:
    return {"$": "u64", "v": str(value)}


def raw(value: bytes) -> Json:
    return {"$": "bytes", "v": value.hex()}


UNDEFINED: Json = {"$": "undefined"}
EDGES = [0, 1, -1, 63, 64, -64, 127, 128, 255, 256, 2**30, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**32, 2**53 - 1]
BIG_EDGES = [0, 1, -1, 255, -255, 256, -256, 2**63, 2**64 - 1, 2**64, -(2**64), 1 - 2**64, 2**128, -(2**200)]

floats = st.one_of(
    st.sampled_from([0.0, -0.0, 0.5, math.nan, math.inf, -math.inf, 5e-324, 1e308, 2.0**53]), st.floats()
)
numbers = st.one_of(st.sampled_from(EDGES), st.integers(-(2**53) + 1, 2**53 - 1), floats.map(_number))
bigints = st.one_of(st.sampled_from(BIG_EDGES), st.integers(-(2**100), 2**100)).map(_bigint)
u64s = st.one_of(st.sampled_from([0, 1, 5, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1)).map(u64)
blobs = st.one_of(st.sampled_from([b"", b"\0", b"\0\xff", b"\xff"]), st.binary(max_size=20)).map(raw)
whole = st.characters(exclude_categories=["Cs"])
texts = st.one_of(
    st.sampled_from(["", "a", "b", "\0", "a\0b", "é", "ÿ", "Ā", "\uffff", "😀"]), st.text(whole, max_size=10)
)
odd_texts = st.one_of(texts, st.sampled_from(["\ud800", "a\udc00b"]), st.just("x" * 200), st.just("Ā" * 100))

parts = st.one_of(
    st.sampled_from(["a", "b", 1, 2]),
    texts,
    st.integers(-5, 5),
    numbers,
    bigints,
    blobs,
    st.booleans(),
)
keys = st.lists(parts, min_size=1, max_size=3)
bad_parts = st.sampled_from([None, UNDEFINED, {"$": "object", "v": []}, [1], {"$": "date", "v": 0}, {"$": "symbol"}])
bad_keys = st.one_of(
    st.just([]),
    st.sampled_from(
        [["x" * 2046], ["x" * 2047], ["x" * 2048], [_bigint(2**2040)], [_bigint(-(2**2040))], [raw(b"\0" * 1100)]]
    ),
    st.builds(lambda key, part, at: [*key[:at], part, *key[at:]], keys, bad_parts, st.integers(0, 3)),
)

dates = st.one_of(
    st.sampled_from([0, -1, 1_700_000_000_123, 8_640_000_000_000_000, -62_135_596_800_001]),
    st.integers(-8_640_000_000_000_000, 8_640_000_000_000_000),
    st.just({"$": "number", "v": "NaN"}),
).map(lambda at: {"$": "date", "v": at})
regexps = st.builds(
    lambda source, flags: {"$": "regexp", "source": source, "flags": flags},
    st.sampled_from(["a+", "[0-9]{2}", "(?:)", "\\d", "(?<name>x)", "é", "Ā"]),
    st.sampled_from(["", "i", "ims", "g", "dgimsuy", "v"]),
)
views = st.builds(
    lambda kind, data: {"$": "view", "type": kind[0], "v": (data * kind[1]).hex()},
    st.sampled_from(
        [("Int8Array", 1), ("Uint16Array", 2), ("Float32Array", 4), ("Float64Array", 8), ("BigInt64Array", 8)]
    ),
    st.binary(min_size=1, max_size=3),
)
rare = st.one_of(
    views,
    st.binary(max_size=5).map(lambda data: {"$": "buffer", "v": data.hex()}),
    st.one_of(st.booleans(), texts, numbers, bigints).map(lambda inner: {"$": "boxed", "v": inner}),
    st.builds(
        lambda name, message, stack: {"$": "error", "name": name, "message": message, "stack": stack},
        st.sampled_from(["Error", "EvalError", "RangeError", "ReferenceError", "SyntaxError", "TypeError", "URIError"]),
        texts,
        texts,
    ),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    bigints,
    odd_texts,
    blobs,
    dates,
    regexps,
    st.just(UNDEFINED),
    st.just({"$": "ref"}),
)
names = st.one_of(
    texts, st.sampled_from(["__proto__", "0", "1", "10", "2", "01", "-1", "4294967294", "4294967295", "constructor"])
)


def _unique(pairs: list[list[Json]]) -> list[list[Json]]:
    """Without the keys that JavaScript takes for others (-0 for 0), or Python (true for 1)."""
    found: dict[str, list[Json]] = {}
    for name, item in pairs:
        same = int(name) if isinstance(name, bool) else name
        if same != {"$": "number", "v": "-0"}:
            found.setdefault(repr(same), [name, item])
    return list(found.values())


def _containers(inner: Strategy) -> Strategy:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(numbers, max_size=4),
        st.lists(st.one_of(inner, st.just({"$": "hole"})), max_size=4),
        st.lists(st.tuples(names, inner).map(list), max_size=4).map(_object),
        st.lists(st.tuples(inner, inner).map(list), max_size=3).map(lambda pairs: {"$": "map", "v": _unique(pairs)}),
        st.lists(inner, max_size=3).map(
            lambda items: {"$": "set", "v": [name for name, _ in _unique([[item, 0] for item in items])]}
        ),
    )


def _object(pairs: list[list[Json]]) -> Json:
    """JavaScript's order of properties: array indexes by value, then the others as they came."""
    found = {name: item for name, item in pairs}  # noqa: C416 the last of a name
    indexes = sorted((name for name in found if _is_index(name)), key=int)
    others = [name for name in found if not _is_index(name)]
    return {"$": "object", "v": [[name, found[name]] for name in indexes + others]}


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdecimal() and str(int(name)) == name and int(name) < 2**32 - 1


def _tied(json: Json, opened: list[int]) -> Json:
    """References lead to containers that were opened before them, from the outside in."""
    if isinstance(json, list):
        opened.append(0)
        return [_tied(item, opened) for item in json]
    if not isinstance(json, dict):
        return json
    match json["$"]:
        case "ref":
            return {"$": "ref", "v": len(opened) // 2} if opened else None
        case "object":
            opened.append(0)
            return {"$": "object", "v": [[name, _tied(item, opened)] for name, item in json["v"]]}
        case "map":
            opened.append(0)
            return {"$": "map", "v": [[_tied(name, opened), _tied(item, opened)] for name, item in json["v"]]}
        case "set":
            opened.append(0)
            return {"$": "set", "v": [_tied(item, opened) for item in json["v"]]}
    return json


nested = st.recursive(st.one_of(leaves, rare), _containers, max_leaves=8).map(lambda json: _tied(json, []))
messages = st.one_of(numbers, texts, bigints, blobs, nested)
values = st.one_of(messages, u64s)
bad_values = st.one_of(
    st.sampled_from([{"$": "symbol"}, {"$": "function"}, [{"$": "symbol"}], raw(bytes(65537)), "x" * 65531]),
    st.sampled_from([raw(bytes(65536)), "x" * 65530, "Ā" * 32765, "Ā" * 32766]),
)


def spelt_one_way(json: Json) -> bool:
    """Whether V8 writes this value as the same bytes however the program made it, in either language.

    An array of doubles and other things, or of numbers and `undefined`, is written by how V8 came to hold it; and the order of
    a set's items is not Python's.
    """
    if isinstance(json, list):
        mixed = any(map(_is_double, json)) and not all(map(_is_number, json))
        return UNDEFINED not in json and not mixed and all(map(spelt_one_way, json))
    if not isinstance(json, dict):
        return True
    match json.get("$"):
        case "set":
            return len(json["v"]) < 2 and all(map(spelt_one_way, json["v"]))
        case "object" | "map":
            return all(spelt_one_way(name) and spelt_one_way(item) for name, item in json["v"])
    return True


def _is_number(json: Json) -> bool:
    return (isinstance(json, int) and not isinstance(json, bool)) or (isinstance(json, dict) and json["$"] == "number")


def _is_double(json: Json) -> bool:
    return _is_number(json) and (isinstance(json, dict) or not -(2**31) <= json < 2**31)
