"""Sequences of operations for real Deno and ours, made by Hypothesis.

What depends on earlier answers is named, and filled in for each side: a versionstamp is {"$": "stamp", "v": n}, the n-th
that the side gave, or {"$": "now"}, that of the key at this moment; a cursor is {"$": "cursor"}, the last one given.
"latest" reads from a watch until it gives what is stored now, or answers what it gave last if that is the same.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from kv_strategies import (
    UNDEFINED,
    Json,
    Strategy,
    bad_keys,
    bad_values,
    bigints,
    keys,
    messages,
    numbers,
    texts,
    u64s,
    values,
)

NAN = {"$": "number", "v": "NaN"}
HALF = {"$": "number", "v": "0.5"}
SUFFIX = {"$": "versionstamp"}

stamps = st.one_of(
    st.none(),
    st.just({"$": "now"}),
    st.just({"$": "now"}),
    st.integers(0, 5).map(lambda n: {"$": "stamp", "v": n}),
)
bad_stamps = st.sampled_from(["", "0", "x" * 20, "0" * 19, "0" * 21])
expiries = st.sampled_from([100_000, 3_600_000, 10**12, UNDEFINED])
bad_expiries = st.sampled_from([-1, HALF, NAN, "5", True, 2**53 - 1])
limits = st.sampled_from([1, 2, 3, 5, 1001, UNDEFINED])
batches = st.sampled_from([1, 2, 3, 1000, UNDEFINED])
bad_counts = st.sampled_from([0, -1, HALF, NAN, "2", True])
cursors = st.one_of(
    st.just({"$": "cursor"}),
    st.just({"$": "cursor"}),
    st.sampled_from(["", "x", "AA==", "AA", "_w==", "/w==", "AB==", "-_8=", "é", "A" * 4000, " AA=="]),
)
consistencies = st.sampled_from(["strong", "eventual"])


def searching(sequences: int) -> settings:
    """So many of them, however long each takes, and a smaller one where two disagree."""
    return settings(
        max_examples=sequences,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )


def _maybe(**fields: Strategy) -> Strategy:
    """An object with any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def _one_bad(good: dict[str, Strategy], bad: dict[str, Strategy]) -> Strategy:
    """Arguments that are good, or good but for one."""
    wrong = [st.fixed_dictionaries({**good, name: strategy}) for name, strategy in bad.items()]
    return st.one_of(st.fixed_dictionaries(good), st.fixed_dictionaries(good), *wrong)


def _merge(*parts: Json) -> Json:
    return {name: value for part in parts for name, value in part.items()}


def _merged(*strategies: Strategy) -> Strategy:
    return st.builds(_merge, *strategies)


def _op(name: str, *arguments: Strategy) -> Strategy:
    return _merged(st.just({"op": name}), *arguments)


def _step(name: str, *arguments: Strategy) -> Strategy:
    return _merged(st.just({"do": name}), *arguments)


queue_options = st.one_of(
    _maybe(
        delay=st.sampled_from([0, 1, 1000, 30 * 86_400_000, UNDEFINED]),
        backoffSchedule=st.sampled_from([[], [0], [1, 1000, 3_600_000], [1, 2, 3, 4, 5], UNDEFINED]),
        keysIfUndelivered=st.lists(keys, max_size=3),
    ),
    st.sampled_from([{"delay": -1}, {"delay": 30 * 86_400_000 + 1}, {"delay": NAN}]),
    st.sampled_from([{"backoffSchedule": [1] * 6}, {"backoffSchedule": [3_600_001]}, {"backoffSchedule": [-1]}]),
    st.sampled_from(
        [{"keysIfUndelivered": [[None]]}, {"keysIfUndelivered": [[]]}, {"keysIfUndelivered": [["x" * 3000]]}]
    ),
)


def _sets(known: Strategy) -> Strategy:
    return _step("set", st.fixed_dictionaries({"key": known, "value": values}), _maybe(expireIn=expiries))


def _mutations(known: Strategy) -> Strategy:
    number = st.one_of(numbers, st.sampled_from([1, 2, -1]))
    suffixed = known.map(lambda key: [*key, SUFFIX])
    return st.one_of(
        _sets(known),
        _step("set", st.fixed_dictionaries({"key": known, "value": st.one_of(u64s, numbers, bigints)})),
        _step("set", st.fixed_dictionaries({"key": suffixed, "value": values})),
        _step("delete", st.fixed_dictionaries({"key": known})),
        _step("sum", st.fixed_dictionaries({"key": known, "value": u64s.map(lambda n: {**n, "$": "bigint"})})),
        *(
            _step("mutate", st.fixed_dictionaries({"type": st.just(kind), "key": known, "value": u64s}))
            for kind in ("sum", "min", "max")
        ),
        _step(
            "mutate", st.fixed_dictionaries({"type": st.just("sum"), "key": known, "value": st.one_of(number, bigints)})
        ),
        _step("enqueue", st.fixed_dictionaries({"value": messages})),
    )


def _bad_steps(known: Strategy) -> Strategy:
    return st.one_of(
        _step("set", st.fixed_dictionaries({"key": bad_keys, "value": numbers})),
        _step("set", st.fixed_dictionaries({"key": known, "value": bad_values})),
        _step("set", st.fixed_dictionaries({"key": known, "value": numbers, "expireIn": bad_expiries})),
        _step("delete", st.fixed_dictionaries({"key": bad_keys})),
        _step("check", st.fixed_dictionaries({"key": bad_keys, "versionstamp": st.none()})),
        _step("check", st.fixed_dictionaries({"key": known, "versionstamp": bad_stamps})),
        _step(
            "sum",
            st.fixed_dictionaries(
                {
                    "key": known,
                    "value": st.sampled_from(["1", None, {"$": "bigint", "v": "-1"}, {"$": "bigint", "v": str(2**64)}]),
                }
            ),
        ),
        _step(
            "mutate",
            st.fixed_dictionaries(
                {"type": st.sampled_from(["sum", "min", "max"]), "key": known, "value": st.one_of(texts, st.none())}
            ),
        ),
        _step("enqueue", st.fixed_dictionaries({"value": bad_values})),
        _step("enqueue", st.fixed_dictionaries({"value": messages}), queue_options),
    )


def _atomics(known: Strategy) -> Strategy:
    check = _step("check", st.fixed_dictionaries({"key": known, "versionstamp": stamps}))
    good = st.builds(lambda a, b: a + b, st.lists(check, max_size=2), st.lists(_mutations(known), max_size=4))
    bad = st.builds(lambda steps, step: [*steps, step], st.lists(_sets(known), max_size=1), _bad_steps(known))
    many = st.one_of(
        *(
            st.integers(-1, 1).map(lambda d, n=n: n + d).flatmap(lambda n, s=s: s.map(lambda one: [one] * n))  # type: ignore[misc]
            for n, s in ((100, check), (1000, _step("delete", st.fixed_dictionaries({"key": known}))))
        )
    )
    steps = st.one_of(good, good, good, good, good, good, bad, bad, many)
    return _op("atomic", st.fixed_dictionaries({"steps": steps}))


def _lists(known: Strategy) -> Strategy:
    prefixes = known.flatmap(lambda key: st.integers(0, len(key)).map(lambda n: key[:n]))
    selector = st.one_of(
        st.fixed_dictionaries({"prefix": prefixes}),
        st.fixed_dictionaries({"prefix": prefixes}),
        known.flatmap(
            lambda key: st.tuples(st.integers(0, len(key)), st.sampled_from(["start", "end"])).map(
                lambda drawn: {"prefix": key[: drawn[0]], drawn[1]: key}
            )
        ),
        st.fixed_dictionaries({"prefix": prefixes, "start": known}),
        st.fixed_dictionaries({"start": known, "end": known}),
        st.fixed_dictionaries({"start": st.just([]), "end": known}),
        st.sampled_from([{}, {"start": ["a"]}, {"end": ["a"]}, {"prefix": ["a"], "start": ["a", 1], "end": ["a", 2]}]),
        st.sampled_from([{"prefix": ["x" * 2046]}, {"prefix": ["x" * 2047]}, {"start": ["a"], "end": ["b" * 2048]}]),
    )
    options = _maybe(
        limit=limits,
        reverse=st.booleans(),
        batchSize=batches,
        consistency=consistencies,
        cursor=cursors,
        take=st.integers(1, 4),
    )
    bad = st.sampled_from(["limit", "batchSize"]).flatmap(lambda name: bad_counts.map(lambda count: {name: count}))
    wrong = st.one_of(bad, st.sampled_from([{"consistency": "x"}, {"batchSize": 1001}]))
    everything: Strategy = st.just({"prefix": []})
    return st.one_of(
        _op("list", selector, options),
        _op("list", everything, options),
        _op("list", everything, _maybe(limit=limits, cursor=cursors, reverse=st.booleans())),
        _op("list", st.just({"prefix": ["a"]}), wrong),
    )


def _operations(known: Strategy) -> Strategy:
    return st.one_of(
        _op("set", st.fixed_dictionaries({"key": known, "value": values}), _maybe(expireIn=expiries)),
        _op("set", st.fixed_dictionaries({"key": known, "value": values})),
        _op(
            "set",
            _one_bad(
                {"key": known, "value": numbers}, {"key": bad_keys, "value": bad_values, "expireIn": bad_expiries}
            ),
        ),
        _op("get", st.fixed_dictionaries({"key": known}), _maybe(consistency=consistencies)),
        _op("get", _one_bad({"key": known}, {"key": bad_keys, "consistency": st.just("x")})),
        _op("getMany", st.fixed_dictionaries({"keys": st.lists(known, max_size=11)})),
        _op("getMany", st.fixed_dictionaries({"keys": st.tuples(known, bad_keys).map(list)})),
        _op("delete", _one_bad({"key": known}, {"key": bad_keys})),
        _atomics(known),
        _atomics(known),
        _atomics(known),
        _lists(known),
        _lists(known),
        _op("enqueue", st.fixed_dictionaries({"value": messages}), queue_options),
        _op("watch", st.fixed_dictionaries({"name": st.sampled_from("vw"), "keys": st.lists(known, max_size=3)})),
        _op("watch", st.fixed_dictionaries({"name": st.just("v"), "keys": st.lists(known, min_size=9, max_size=11)})),
        _op("latest", st.fixed_dictionaries({"name": st.sampled_from("vw")})),
    )


@st.composite
def sequences(draw: Any, longest: int = 14) -> list[Json]:
    """Commands on few keys, so that they meet, of which some are prefixes of others."""
    pool = draw(st.lists(keys, min_size=2, max_size=5))
    longer = [
        [*pool[0], part] for part in draw(st.lists(st.sampled_from(["a", 0, 1, {"$": "bytes", "v": "ff"}]), max_size=2))
    ]
    known = st.sampled_from(pool + longer)
    commands: list[Json] = draw(st.lists(_operations(known), min_size=1, max_size=longest))
    return commands
