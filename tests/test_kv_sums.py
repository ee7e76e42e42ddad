"""Sums with bounds, which Deno's API does not offer: Deno's backend is asked through the binary of @deno/kv for Node."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kv_files import entry
from kv_notation import value_of
from kv_strategies import bigints, blobs, floats, numbers, texts, u64s
from test_kv_differential import SEQUENCES

from provisioner.kv import KvError, value
from provisioner.kv.client import open_store
from provisioner.kv.model import AtomicWrite, Mutation, MutationKind
from provisioner.kv.store import Store

NUMBERS = {MutationKind.SET: 1, MutationKind.SUM: 3, MutationKind.MAX: 4, MutationKind.MIN: 5}
KINDS = {
    "The result of a Sum operation would exceed its range limit": "OutOfRange",
    "Failed to perform": "TypeMismatch",
    "Cannot sum": "TypeMismatch",
    "Some of the parameters": "TypeMismatch",
    "Min/max parameters have different types": "TypeMismatch",
    "Cannot use min/max": "TypeMismatch",
    "unsupported value type": "TypeMismatch",
}


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
        script = str(Path(__file__).with_name("kv_sums.mjs"))
        self._node = subprocess.Popen(
            ["node", script, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def write(self, path: Path, mutation: Mutation) -> str | None:
        """The error, if there was one."""
        assert self._node.stdin is not None
        assert self._node.stdout is not None
        self._node.stdin.write(json.dumps({"db": str(path), "write": message(mutation).hex()}) + "\n")
        answer: dict[str, str] = json.loads(self._node.stdout.readline())
        return answer.get("error")

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
    return type(result).__name__ if isinstance(result, KvError) else None


def kind_of(error: str | None) -> str | None:
    if error is None:
        return None
    (kind,) = [kind for start, kind in KINDS.items() if error.startswith(start)] or [error]
    return kind


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
        wanted = kind_of(backend.write(theirs, mutation))
        assert outcome(store, mutation) == outcome(memory, mutation) == wanted
        assert entry(ours, key) == entry(theirs, key)

    agree()
    store.close()
    memory.close()
