"""Values as JSON, for people: what is written is what was read, and what cannot be written says so at once."""

from __future__ import annotations

import json
from time import thread_time
from typing import Any

import pytest
from v8serialize.jstypes import JSArray

from provisioner.kv.codec import json_notation, value
from provisioner.kv.dump import json_lines
from provisioner.kv.errors import KeyInvalid, ValueInvalid
from provisioner.kv.model import NEVER, BigInt


def again(given: Any) -> Any:
    return json_notation.value_of(json.dumps(json_notation.to_json(given)))


@pytest.mark.parametrize(
    "number", [0, -1, 2**64, 10**4300, -(10**20_000), 2**500_000], ids=lambda number: number.bit_length()
)
def test_a_bigint_of_any_size_is_written_and_read(number: int) -> None:
    assert again(BigInt(number)) == BigInt(number)
    assert type(again(BigInt(number))) is BigInt
    json_lines.documents_of((b"\x02a\x00", *value.encode(BigInt(number)), 1, NEVER))


def test_a_few_references_do_not_become_billions_of_items() -> None:
    shared: list[Any] = []
    for _ in range(60):
        shared = [shared, shared]
    read = value.decode(*value.encode(shared))
    began = thread_time()
    with pytest.raises(ValueInvalid, match="refers to the same objects so often"):
        json_notation.to_json(read)
    holed: JSArray[Any] = JSArray({2: 1})
    for _ in range(60):
        holed = JSArray({0: holed, 2: holed})
    assert json_notation.to_json(holed) == {"$other": "JSArray"}
    data = bytes(30_000)
    with pytest.raises(ValueInvalid, match="refers to the same objects so often"):
        json_notation.to_json([data] * 1000)
    assert thread_time() - began < 5
    assert "$v8" in json_lines.documents_of((b"\x02a\x00", *value.encode(shared), 1, NEVER))[1]


def test_what_is_nested_too_deeply_is_refused_and_not_a_fault() -> None:
    with pytest.raises(ValueInvalid, match="nested too deeply"):
        json_notation.value_of("[" * 100_000)
    with pytest.raises(KeyInvalid, match="is not JSON"):
        json_notation.key_of("[" * 100_000)
