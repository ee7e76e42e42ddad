"""A database as lines of JSON, which docs/dump.md describes: the first line says what it is, the last how many entries
there were, each between them is an entry. What the notation of values cannot say bit by bit stands there as its bytes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn

from provisioner.kv import limits
from provisioner.kv.codec import json_notation
from provisioner.kv.codec import key as keys
from provisioner.kv.codec import value as values
from provisioner.kv.errors import DumpInvalid, KvError, Malformed, ValueInvalid
from provisioner.kv.model import NEVER, Encoding, StoredRow

FORMAT: Final = "provisioner-kv"
VERSION: Final = 1
LINE_BYTES: Final = 256 * 1024 * 1024  # a dump has no longer lines

_V8, _LE64, _BYTES = int(Encoding.V8), int(Encoding.LE64), int(Encoding.BYTES)
_OURS: Final = 15  # the version of V8's format that `value.encode` writes
_64_BITS: Final = 2**64 - 1
_NAMES: Final = frozenset(("key", "value", "versionstamp", "expire_at", "v8"))
_AS_THEY_ARE: Final = frozenset((str, int, bool))
_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_escaped = json.JSONEncoder(allow_nan=False).encode


class Header(NamedTuple):
    """The first line. `snapshot`: all entries are of one moment. `expiry`: those that expire say so."""

    database: str = ""
    at: str = ""
    versionstamp: str | None = None
    snapshot: bool = True
    expiry: bool = True
    prefix: list[Any] | None = None  # it has only the keys that start so


def header_line(header: Header) -> bytes:
    known = {name: value for name, value in header._asdict().items() if name != "prefix" or value is not None}
    return _line({"format": FORMAT, "version": VERSION, **known})


def end_line(entries: int) -> bytes:
    return _line({"end": entries})


def entry_line(row: StoredRow, *, versionstamps: bool = True) -> bytes:
    key, value, encoding, version, expire_at = row
    written, v8 = _value(value, encoding)
    document = {"key": _key(key), "value": written}
    if v8 != _OURS:
        document["v8"] = v8
    if versionstamps and version is not None:
        document["versionstamp"] = stamp(version)
    if expire_at != NEVER:
        document["expire_at"] = expire_at
    try:
        return _compact(document).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair
        return _line(document)


def stamp(version: int) -> str:
    """The versionstamp of a version, in its 20 digits."""
    return f"{version & _64_BITS:016x}0000"


def documents_of(row: StoredRow) -> tuple[Any, Any]:
    """The key and the value as a dump has them, for who shows them."""
    return _key(row[0]), _value(row[1], row[2])[0]


def _line(document: object) -> bytes:
    return _escaped(document).encode() + b"\n"


def _key(data: bytes) -> Any:
    try:
        key = keys.decode(data)
        if key and all(type(part) in _AS_THEY_ARE for part in key):
            return list(key)
        if key and keys.encode(key) == data:
            return [part if type(part) in _AS_THEY_ARE else json_notation.to_json(part) for part in key]
    except KvError:
        pass
    return _bytes("$bytes", data)


def _bytes(name: str, data: bytes) -> Any:
    return {name: base64.b64encode(data).decode()}


def _value(data: bytes, encoding: int) -> tuple[Any, int]:
    """The value as JSON, and the version of V8's format that its bytes are in."""
    if encoding == _BYTES:
        return _bytes("$bytes", data), _OURS
    if encoding == _LE64 and len(data) == 8:
        return {"$u64": str(int.from_bytes(data, "little"))}, _OURS
    if encoding != _V8:
        return {"$stored": [encoding, base64.b64encode(data).decode()]}, _OURS
    try:
        value = values.from_v8(data)
        if _is_json(value, set()):
            document, again = value, value
        else:
            document = json_notation.to_json(value, len(data))
            again = json_notation.from_json(document)
        written = values.encode(again)
    except (Malformed, ValueInvalid, RecursionError):
        return _bytes("$v8", data), _OURS
    if written[1] == _V8 and written[0][2:] == data[2:] and data[:1] == b"\xff" and data[1] < 128:
        return document, data[1]
    return _bytes("$v8", data), _OURS


def _is_json(value: Any, seen: set[int]) -> bool:
    """Whether JSON says this value as it is. An object that appears twice it would double."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return True
    if kind is float:
        return value != 0 and math.isfinite(value)
    if kind is not dict and kind is not list:
        return False
    if id(value) in seen:
        return False
    seen.add(id(value))
    if kind is list:
        return all(_is_json(item, seen) for item in value)
    if len(value) == 1 and next(iter(value)).startswith("$"):
        return False
    return all(type(name) is str and _is_json(item, seen) for name, item in value.items())


class Dump:
    """A dump that is read from `stream`. Raises DumpInvalid, here and in `rows`, where a line is none of a dump."""

    def __init__(self, stream: BinaryIO) -> None:
        self.header: Header | None = None
        self.bytes_read = 0
        self._stream = stream
        self._first: bytes | None = self._read(1)
        if not self._first:
            raise DumpInvalid("the dump is empty: the program that should have written it has failed", 1)
        if (document := _parsed(self._first, 1)).keys() >= {"format"}:
            self.header = _header(document)
            self._first = None

    def rows(self, start: int = 1, *, before: bool = False) -> Iterator[tuple[int, StoredRow]]:
        """Line number and entry, from the line `start` on; those before are not looked at, but for the last if `before`.

        A dump with a header line must have its last line too, with the right number.
        """
        number = count = 0
        skipped: tuple[int, bytes] | None = None
        for number, line in self._lines():
            if number < start and not line.startswith(b'{"end"'):
                count += 1
                skipped = number, line
                continue
            if before and skipped is not None:
                yield skipped[0], _row(_parsed(skipped[1], skipped[0]), skipped[0])
                before = False
            document = _parsed(line, number)
            if "end" in document and "key" not in document:
                self._end(document, count, number)
                return
            count += 1
            yield number, _row(document, number)
        if before and skipped is not None:
            yield skipped[0], _row(_parsed(skipped[1], skipped[0]), skipped[0])
        if self.header is not None:
            raise DumpInvalid("the dump ends here without its last line, so some of it is missing", number + 1)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        number = 1
        if self._first:
            yield 1, self._first
        while line := self._read(number := number + 1):
            if not line.isspace():
                yield number, line

    def _read(self, number: int) -> bytes:
        line = self._stream.readline(LINE_BYTES)
        self.bytes_read += len(line)
        if len(line) == LINE_BYTES:
            raise DumpInvalid(f"the line has more than {LINE_BYTES} bytes", number)
        return line

    def _end(self, document: dict[str, Any], count: int, number: int) -> None:
        if document["end"] != count:
            raise DumpInvalid(f"the dump says that it has {document['end']} entries; there are {count}", number)
        while line := self._read(number := number + 1):
            if not line.isspace():
                raise DumpInvalid("there is more after the end of the dump", number)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def _parsed(line: bytes, number: int) -> dict[str, Any]:
    try:
        document = _decoder.decode(line.decode())
    except (ValueError, RecursionError) as error:
        cut = "" if line.endswith(b"\n") else "; the file seems to be cut off here"
        raise DumpInvalid(f"this is not JSON ({error}){cut}", number) from error
    if not isinstance(document, dict):
        raise DumpInvalid("a line of a dump is an object of JSON", number)
    return document


def _header(document: dict[str, Any]) -> Header:
    if document["format"] != FORMAT or document.get("version") != VERSION:
        raise DumpInvalid(
            f"this is a dump of format {document['format']!r}, version {document.get('version')!r}; {FORMAT!r}, version"
            f" {VERSION} can be read",
            1,
        )
    return Header(**{name: document[name] for name in Header._fields if name in document})


def _row(document: dict[str, Any], number: int) -> StoredRow:
    if not _NAMES.issuperset(document) or "key" not in document or "value" not in document:
        raise DumpInvalid(f"an entry has key, value, and maybe versionstamp, expire_at, v8; not {[*document]}", number)
    try:
        key = _key_of(document["key"])
        data, encoding = _value_of(document["value"], document.get("v8", _OURS))
        return key, data, encoding, _version_of(document.get("versionstamp")), _expiry_of(document.get("expire_at"))
    except (KvError, ValueError, TypeError, RecursionError) as error:
        raise DumpInvalid(str(error), number) from error


def _key_of(document: Any) -> bytes:
    if isinstance(document, list):
        key = keys.encode([json_notation.from_json(part) for part in document])
    else:
        key = _bytes_of(document, "$bytes")
    if not key:
        raise ValueError("a key has at least one part")
    return key


def _bytes_of(document: Any, name: str) -> bytes:
    if not isinstance(document, dict) or list(document) != [name] or not isinstance(document[name], str):
        raise ValueError("a key is an array of JSON")
    return base64.b64decode(document[name], validate=True)


def _value_of(document: Any, v8: object) -> tuple[bytes, int]:
    if type(v8) is not int or not 0 <= v8 < 128:
        raise ValueError("v8 is the version of V8's format, as 15 or 16")
    if isinstance(document, dict) and len(document) == 1:
        if "$v8" in document:
            return _bytes_of(document, "$v8"), _V8
        if "$stored" in document:
            encoding, text = document["$stored"]
            if type(encoding) is not int:
                raise ValueError("the encoding of what is stored is a number")
            return base64.b64decode(text, validate=True), encoding
    data, encoding = values.encode(json_notation.from_json(document))
    if v8 != _OURS and encoding == _V8:
        data = data[:1] + bytes((v8,)) + data[2:]
    return data, encoding


def _version_of(digits: Any) -> int | None:
    if digits is None:
        return None
    if not isinstance(digits, str) or len(digits) != 20:
        raise ValueError("a versionstamp has 20 hexadecimal digits")
    return int.from_bytes(bytes.fromhex(digits)[:8], "big", signed=True)


def _expiry_of(moment: Any) -> int:
    if moment is None:
        return NEVER
    if type(moment) is not int or not -(2**63) <= moment < 2**63:
        raise ValueError("expire_at is a whole number of milliseconds since 1970")
    return moment


def check_written(rows: Iterable[StoredRow]) -> None:
    """Refuse what Deno's limits do not allow to be written over a network."""
    for key, value, *_ in rows:
        keys.check_written(key)
        if len(value) > limits.VALUE:
            raise ValueInvalid(f"a value has at most {limits.VALUE} bytes, not {len(value)}")
