"""Bytes in the file that nobody should have written: a typed error names the key, and everything else stays readable."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from kv_files import put
from kv_oracle import Oracle, OracleError

from provisioner.kv import KvError, Malformed, TypeMismatch, open_kv
from provisioner.kv.client.sync_client import open_store
from provisioner.kv.codec import key as keys
from provisioner.kv.dump.full_scan import of_store

V8_ONE = bytes.fromhex("ff0f4902")
GOOD = [("a",), ("z",)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "kv.sqlite3"
    with open_kv(path) as kv:
        for key in GOOD:
            kv.set(key, key[0])
    return path


VALUES = {
    "a short KvU64": (b"1234567", 2),
    "a long KvU64": (b"123456789", 2),
    "an empty KvU64": (b"", 2),
    "nothing": (b"", 1),
    "no V8": (b"junk", 1),
    "only a header": (b"\xff\x0f", 1),
    "a string cut off": (bytes.fromhex("ff0f220561"), 1),
    "a two-byte string of odd length": (bytes.fromhex("ff0f6303610062"), 1),
    "an array without end": (bytes.fromhex("ff0f4101"), 1),
    "an array of a billion": (bytes.fromhex("ff0f41ffffffff0f"), 1),
    "a reference to nothing": (bytes.fromhex("ff0f5e05"), 1),
    "an object with a wrong count": (bytes.fromhex("ff0f6f22016149027b09"), 1),
    "a bigint cut off": (bytes.fromhex("ff0f5a1001"), 1),
    "a version of the future": (bytes.fromhex("ff634902"), 1),
    "no header": (bytes.fromhex("4902"), 1),
    "an unknown tag": (bytes.fromhex("ff0f01"), 1),
    "a host object that Node does not know": (bytes.fromhex("ff0f5c6300"), 1),
    "a host object that is cut off": (bytes.fromhex("ff0f5c010561"), 1),
    "an unknown encoding": (b"x", 4),
    "encoding 0": (b"x", 0),
    "a negative encoding": (b"x", -1),
    "a text": ("text", 3),
    "an encoding in words": (b"x", "abc"),
    "deep nesting": (b"\xff\x0f" + b"A\x01" * 20_000, 1),
}


@pytest.mark.parametrize("what", VALUES)
def test_a_value_that_cannot_be_read_names_its_key_and_the_others_stay_readable(path: Path, what: str) -> None:
    put(path, keys.encode(("m", 1)), *VALUES[what])
    with open_kv(path) as kv:
        with pytest.raises(Malformed, match=r"'m', 1"):
            kv.get(("m", 1))
        with pytest.raises(Malformed, match=r"'m', 1"):
            kv.get_many([("a",), ("m", 1)])
        assert [entry.value for entry in kv.get_many(GOOD)] == ["a", "z"]
        listed = kv.list(())
        assert next(listed).key == ("a",)
        with pytest.raises(Malformed, match=r"'m', 1"):
            next(listed)
        assert [entry.key for entry in listed] == [("z",)], "the list goes on behind it"
        with pytest.raises((Malformed, TypeMismatch)):
            kv.atomic().set(("b",), 1).sum(("m", 1), 1).commit()
        assert kv.get(("b",)).value is None
        kv.set(("m", 1), "mended")
        assert [entry.value for entry in kv.list(())] == ["a", "mended", "z"]


@pytest.mark.parametrize(
    "digits", ["027472756e63", "99", "2100", "02fffe00", "1601", "1d01", "026d0002", "016100ff", "00"]
)
def test_a_key_that_cannot_be_read_is_named_by_its_bytes_and_the_others_stay_readable(path: Path, digits: str) -> None:
    put(path, bytes.fromhex(digits), V8_ONE)
    with open_kv(path) as kv:
        assert [entry.value for entry in kv.get_many(GOOD)] == ["a", "z"]
        found = []
        listed = kv.list((), start=None) if digits != "00" else kv.list(start=(), end=(True,))
        errors = []
        while True:
            try:
                found.append(next(listed).key)
            except StopIteration:
                break
            except Malformed as error:
                errors.append(str(error))
        assert found == GOOD
        assert len(errors) == 1
        assert digits in errors[0]


def test_what_deno_can_still_read_we_read_the_same(path: Path) -> None:
    """Old versions, bytes behind the value, and bigints in more bytes than they need."""
    rows = [
        (b"\x02m\x00", bytes.fromhex("ff0d4902")),
        (b"\x02n\x00", bytes.fromhex("ff0e4902")),
        (b"\x02o\x00", bytes.fromhex("ff104902")),
        (b"\x02p\x00", bytes.fromhex("ff0f490200ff")),
        (b"\x15\x00", V8_ONE),
        (b"\x1d\x09" + bytes(9), V8_ONE),
    ]
    for key, value in rows:
        put(path, key, value)
    with Oracle() as oracle:
        oracle.send("open", path=str(path))
        theirs = [(entry["key"], entry["value"]) for entry in oracle.send("list", prefix=[])["entries"]]
    with open_kv(path) as kv:
        ours = [(entry.key, entry.value) for entry in kv.list(())]
    assert [value for _, value in ours] == [value for _, value in theirs]
    assert len(ours) == len(rows) + len(GOOD)
    assert [key for key, _ in ours][1:5] == [(name,) for name in "mnop"]


def test_deno_refuses_what_we_refuse(path: Path) -> None:
    """So that nobody relies on us for what Deno cannot read. A KvU64 of a wrong length is left out: it kills Deno."""
    refused = {}
    for number, (what, (value, encoding)) in enumerate(VALUES.items()):
        if encoding != 2:
            put(path, keys.encode(("m", number)), value, encoding)
            refused[number] = what
    with Oracle() as oracle:
        oracle.send("open", path=str(path))
        for number, what in refused.items():
            with pytest.raises(OracleError):
                print(what, oracle.send("get", key=["m", number]))


ROWS = {
    "no value": (None, 1, 1),
    "no encoding": (V8_ONE, None, 1),
    "no version": (V8_ONE, 1, None),
    "nothing at all": (None, None, None),
    "a version in words": (V8_ONE, 1, "first"),
    "a version with a fraction": (V8_ONE, 1, 1.5),
    "a number for a value": (17, 1, 1),
}


@pytest.mark.parametrize("what", ROWS)
def test_a_row_that_is_no_entry_names_its_key_and_the_others_stay_readable(path: Path, what: str) -> None:
    """A flipped bit makes NULL of a value, and a table that another program has made may allow it; a NULL key, too."""
    key = keys.encode(("m", 1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("alter table kv rename to strict_kv")
        columns = "k blob primary key, v, v_encoding, version, seq default 0, expiration_ms default -1"
        connection.execute(f"create table kv ({columns})")
        connection.execute("insert into kv select * from strict_kv")
        connection.execute("drop table strict_kv")
        for k in (key, None, None):
            connection.execute("insert into kv (k, v, v_encoding, version) values (?, ?, ?, ?)", (k, *ROWS[what]))
        connection.execute("insert into kv (k, v, v_encoding, version, expiration_ms) values (null, x'', 1, 1, 1)")
    with open_kv(path) as kv:
        if what != "no version" and not what.startswith("a version"):
            with pytest.raises(Malformed, match=r"'m', 1"):
                kv.get(("m", 1))
        assert [entry.value for entry in kv.get_many(GOOD)] == ["a", "z"]
        listed = kv.list(())
        assert next(listed).key == ("a",)
        with suppress(Malformed):
            assert next(listed).key == ("m", 1)
        assert next(listed).key == ("z",)
        assert list(kv.list(("a",))) == []
        with closing(open_store(str(path))) as store, of_store(store) as moment:
            if what != "a number for a value":  # which is read as its bytes, as a text is
                with pytest.raises(Malformed, match=key.hex()):
                    list(moment.rows())
        with suppress(KvError):
            kv.atomic().set(("b",), 1).sum(("m", 1), 1).commit()
        with suppress(KvError):
            kv.atomic().check((("m", 1), None)).set(("b",), 1).commit()
        kv.set(("m", 1), "mended")
        assert kv.get(("m", 1)).value == "mended"
        kv.delete(("m", 1))
        with closing(open_store(str(path))) as store, of_store(store) as moment:
            assert [keys.decode(row[0]) for row in moment.rows() if keys.decode(row[0]) in GOOD] == GOOD
