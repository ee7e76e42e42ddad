"""Reading a value executes nothing that it holds, and takes time and memory in proportion to its size, whoever stored it.

Times are processor times of this thread, compared with that of an ordinary value in the same run.
"""

from __future__ import annotations

import gc
import os
import random
import re
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hostile_values import HEADER, VALUES, Maker, number, ordinary, text

from provisioner.dashboard.values import value_display, value_form
from provisioner.kv import RegExp
from provisioner.kv.client.atomic import check_value
from provisioner.kv.codec import json_notation, value
from provisioner.kv.dump import json_lines
from provisioner.kv.errors import KvError, ValueInvalid
from provisioner.kv.model import NEVER, Encoding, Mutation, MutationKind, StoredRow
from provisioner.kv.rules.mutations import effects

pytestmark = pytest.mark.slow

SIZE = 60_000 if "KV_NIGHTLY" in os.environ else 16_000  # bytes: a value has at most 65,536
TIMES = 500  # as long as the decoding of an ordinary value of this size, which takes a millisecond or two
GROWTH = 10  # for four times the size: 4 if it grows with it, 16 with its square
NOTICEABLE = 5  # times as long: of less, growth is noise
TRIES = 6  # what other programs do makes a single one slower, but what grows faster than the size is so each time
MEMORY = 600  # times the size


def row(data: bytes) -> StoredRow:
    return b"\x02a\0", data, Encoding.V8, 1, NEVER


def sum_of(data: bytes) -> None:
    """What a client can have the server do with any value, stored or sent."""
    operand = Mutation(MutationKind.SUM, b"\x02a\0", HEADER + b"I\x02", Encoding.V8)
    for mutation, stored in ((operand, (data, Encoding.V8)), (operand._replace(value=data), None)):
        with suppress(KvError):  # a bigint can be added
            effects((mutation,), lambda _, stored=stored: stored, bytes(10))  # type: ignore[misc]


READERS: dict[str, Callable[[bytes], object]] = {
    "decode": lambda data: value.decode(data, Encoding.V8),
    "decode with sets in order": lambda data: value.decode(data, Encoding.V8, ordered=True),
    "a line of a dump": lambda data: json_lines.entry_line(row(data)),
    "the entry's page": lambda data: value_display.entry(row(data)),
    "a list's page": lambda data: value_display.EntryPage().entry(row(data)),
    "the entry's form": lambda data: value_form.fixed(row(data)),
    "a sum": sum_of,
}


def took(reader: Callable[[bytes], object], data: bytes) -> float:
    """Seconds of this thread; what is refused is refused."""
    gc.disable()  # which objects it looks through depends on what was there before
    try:
        began = time.thread_time()
        with suppress(KvError):
            reader(data)
        return time.thread_time() - began
    finally:
        gc.enable()


def usual() -> float:
    """What an ordinary value takes now: the processor is slower while others use its caches."""
    data = ordinary(SIZE)
    return min(took(READERS["decode"], data) for _ in range(3))


def is_bounded(reader: Callable[[bytes], object], make: Maker) -> bool:
    long, ordinarily = took(reader, make(SIZE)), usual()
    if long < NOTICEABLE * ordinarily:
        return True
    short = took(reader, make(SIZE // 4))
    return long < TIMES * ordinarily and long < GROWTH * max(short, ordinarily)


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_time_is_bounded_and_grows_with_the_size_only(make: Maker) -> None:
    check_value(make(SIZE))
    for name, reader in READERS.items():
        assert any(is_bounded(reader, make) for _ in range(TRIES)), name


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_memory_is_bounded(make: Maker) -> None:
    data = make(SIZE // 2)  # to keep account of each object takes ten times as long
    for name, reader in READERS.items():
        tracemalloc.start()
        try:
            took(reader, data)
            assert tracemalloc.get_traced_memory()[1] < MEMORY * len(data), name
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_whatever_is_in_its_bytes_it_is_read_or_refused(make: Maker) -> None:
    """Bytes are changed, cut out and doubled."""
    chosen = random.Random(1)
    for _ in range(30):
        data = bytearray(make(400))
        for _ in range(chosen.randrange(4)):
            at = chosen.randrange(2, len(data))
            data[at : at + chosen.randrange(3)] = chosen.randbytes(chosen.randrange(3))
        for reader in READERS.values():
            took(reader, bytes(data))


def test_no_expression_is_compiled_to_be_read_shown_compared_or_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiles(*_: object) -> Any:
        raise AssertionError("an expression was compiled")

    data = HEADER + b"o" + text(b"a") + b"R" + text(b"(a+)+$") + number(2) + b"{\x01"
    rare = HEADER + b"a\x03" + b"U\0" + b"R" + text(b"(a+)+$") + number(2) + b"@\x01\x03"  # with a hole
    monkeypatch.setattr(re, "compile", compiles)
    for stored in (data, rare):
        for reader in READERS.values():
            reader(stored)
    assert value.encode(value.decode(data, Encoding.V8)) == (data, Encoding.V8)
    assert json_notation.value_of('{"$regexp": ["(a+)+$", "i"]}') == RegExp("(a+)+$", "i")


def test_an_expression_is_compiled_for_who_asks() -> None:
    assert RegExp("a+", "i").compile() == re.compile("a+", re.IGNORECASE)
    assert RegExp("").compile().match("") is not None
    for none in (RegExp("a", "g"), RegExp("(?<name>a)"), RegExp("(")):
        with pytest.raises(ValueInvalid):
            none.compile()
    for flags in ("x", "ii", "uv"):
        with pytest.raises(ValueInvalid):
            RegExp("a", flags)


@pytest.mark.parametrize("source", ["(", "a)", "[a", "\\", "*", "(+)", "a|?", "a**", "[[a]"])
def test_what_javascript_takes_for_no_expression_is_not_written(source: str) -> None:
    flags = "v" if source == "[[a]" else ""
    with pytest.raises(ValueInvalid, match="regexp"):
        json_notation.from_json({"$regexp": [source, flags]})


@pytest.mark.parametrize(
    "source", ["a+?", "]", "a{2}?", "(?:a)*", "[(]", "[]", "\\(", "(?<n>x)\\k<n>", "a??", "[^]]", "{"]
)
def test_what_javascript_takes_for_an_expression_is_written(source: str) -> None:
    assert json_notation.to_json(json_notation.from_json({"$regexp": [source, "g"]})) == {"$regexp": [source, "g"]}
