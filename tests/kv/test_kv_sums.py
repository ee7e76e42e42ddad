"""Sums with bounds, which Deno's API does not offer, and the words of each refusal: the same as those of Deno's backend.

It is asked through the binary of @deno/kv for Node, and by its API in Deno itself.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import count, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kv_compare import SEQUENCES
from kv_files import entry
from kv_notation import value_of
from kv_oracle import Oracle, OracleError
from kv_strategies import bigints, blobs, floats, numbers, texts, u64s
from paths import SUPPORT

from provisioner.kv import KvError
from provisioner.kv.client.sync_client import open_store
from provisioner.kv.codec import value
from provisioner.kv.model import AtomicWrite, Mutation, MutationKind
from provisioner.kv.store import Store

V8 = b"\xff\x0f"
NUMBERS = {MutationKind.SET: 1, MutationKind.SUM: 3, MutationKind.MAX: 4, MutationKind.MIN: 5}


def field(number: int, content: bytes | int) -> bytes:
    """A field of a protobuf message."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def message(mutation: Mutation) -> bytes:
    """An AtomicWrite of KV Connect with this mutation."""
    stored = field(1, mutation.value) + field(2, mutation.encoding)
    of_mutation = field(1, mutation.key) + field(2, stored) + field(3, NUMBERS[mutation.kind])
    bounds = field(5, mutation.sum_min) + field(6, mutation.sum_max) + field(7, int(mutation.sum_clamp))
    return field(2, of_mutation + bounds)


class Backend:
    """Deno's own, in a Node process."""

    def __init__(self, directory: Path) -> None:
        script = str(SUPPORT / "kv_sums.mjs")
        self._node = subprocess.Popen(
            ["node", script, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def write(self, path: Path, mutation: Mutation) -> str | None:
        """What it said, if it refused."""
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps({"db": str(path), "write": message(mutation).hex()}) + "\n")
        answer: dict[str, str] = json.loads(self._node.stdout.readline())
        error = answer.get("error")
        return error and error.split("\n")[0]  # a backtrace follows

    def close(self) -> None:
        self._node.communicate()


@pytest.fixture(scope="module")
def backend(node_modules: Path) -> Iterator[Backend]:
    backend = Backend(node_modules.parent)
    yield backend
    backend.close()


few = [
    st.sampled_from([-3, -1, 0, 1, 2, 5]),
    st.sampled_from([{"$": "bigint", "v": n} for n in ("-3", "-1", "0", "1", "2", "5")]),
]
operands = st.one_of(
    *few, *few, numbers, bigints, u64s, floats.map(lambda n: {"$": "number", "v": repr(n)}), texts, blobs
)
bounds = st.one_of(st.none(), st.none(), *few, numbers, bigints, texts)


def v8(json: Any) -> bytes:
    return b"" if json is None else value.to_v8(value_of(json))


def outcome(store: Store, mutation: Mutation) -> str | None:
    (result,) = store.write([AtomicWrite(mutations=(mutation,))])
    return str(result) if isinstance(result, KvError) else None


@pytest.mark.timeout(900 + SEQUENCES)  # finding a smaller example of a disagreement takes up to five minutes
def test_sums_with_bounds_are_those_of_denos_backend(backend: Backend, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs.sqlite3", tmp_path / "ours.sqlite3"
    store, memory = open_store(ours), open_store(":memory:")
    keys = (b"\x02%d\0" % number for number in count())

    crossed = {"stored": -3, "operand": -3, "low": -1, "high": -3, "clamp": True, "kind": MutationKind.SUM}

    @example(**crossed)
    @settings(max_examples=2 * SEQUENCES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        stored=st.one_of(st.just("absent"), operands),
        operand=operands,
        low=bounds,
        high=bounds,
        clamp=st.booleans(),
        kind=st.sampled_from(list(NUMBERS)[1:]),
    )
    def agree(stored: Any, operand: Any, low: Any, high: Any, clamp: bool, kind: MutationKind) -> None:
        key = next(keys)
        if stored != "absent":
            before = Mutation(MutationKind.SET, key, *value.encode(value_of(stored)))
            assert backend.write(theirs, before) is None
            assert outcome(store, before) is None
            assert outcome(memory, before) is None
        data, encoding = value.encode(value_of(operand))
        mutation = Mutation(kind, key, data, encoding, -1, v8(low), v8(high), clamp)
        wanted = backend.write(theirs, mutation)
        assert outcome(store, mutation) == outcome(memory, mutation) == wanted
        assert entry(ours, key) == entry(theirs, key)

    agree()
    store.close()
    memory.close()


BROKEN = [
    b"\xff",
    b"\xff\x0f",
    b"junk",
    b"\xff\x11I\x02",
    V8 + b"Q",
    V8 + b"I\x80",
    V8 + b"N\0",
    V8 + b"Z\x04\x01",
    V8 + b"nI\x02",
]


@pytest.mark.parametrize("broken", BROKEN, ids=repr)
def test_bytes_that_are_no_value_are_refused_in_the_words_of_denos_backend(
    backend: Backend, tmp_path: Path, broken: bytes
) -> None:
    before = Mutation(MutationKind.SET, b"\x02k\0", broken)
    sums = [Mutation(MutationKind.SUM, key, V8 + b"I\x02") for key in (b"\x02k\0", b"\x02other\0")]
    operand = Mutation(MutationKind.SUM, b"\x02k\0", broken)
    bound = sums[1]._replace(sum_min=broken)
    theirs = [backend.write(tmp_path / "theirs", mutation) for mutation in (before, *sums, operand, bound)]
    memory = open_store(":memory:")
    assert [outcome(memory, mutation) for mutation in (before, *sums, operand, bound)] == theirs
    memory.close()


STORED = [
    1,
    {"$": "bigint", "v": "1"},
    {"$": "u64", "v": "1"},
    "text",
    {"$": "bytes", "v": "00"},
    None,
    [],
    {"$": "date", "v": 0},
]
OPERANDS = [1, "text", *({"$": "bigint", "v": n} for n in ("1", "-1", str(2**64))), {"$": "u64", "v": "1"}]


def test_what_ours_cannot_do_it_says_as_deno_does() -> None:
    """Programs see these texts over KV Connect."""
    said = set()
    with Oracle() as oracle, closing(open_store(":memory:")) as memory:
        oracle.send("open", path=":memory:")
        for stored, kind, operand in product(STORED, ("sum", "min", "max"), OPERANDS):
            mutation = Mutation(MutationKind(kind), b"k", *value.encode(value_of(operand)))
            memory.write([AtomicWrite(mutations=(Mutation(MutationKind.SET, b"k", *value.encode(value_of(stored))),))])
            oracle.send("set", key=["k"], value=stored)
            try:
                oracle.send("atomic", steps=[{"do": "mutate", "type": kind, "key": ["k"], "value": operand}])
                theirs = None
            except OracleError as error:
                theirs = error.message
            assert outcome(memory, mutation) == theirs, (stored, kind, operand)
            said.add(theirs)
    assert len(said) == 12, said
