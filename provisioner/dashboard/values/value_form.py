"""Entries in a form: how a value and its expiry are written there, and the typed values as they are stored.

A value is typed as JSON in the notation of `provisioner kv`, as plain text, or as bytes in hex. A value can be
edited only if its JSON represents all of it, because the typed text replaces it and nothing may get lost.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterator, Mapping, Set
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote_plus

from markupsafe import escape

from provisioner.core import durations
from provisioner.core.clock import rfc3339
from provisioner.core.errors import UsageError
from provisioner.dashboard.values import value_display
from provisioner.kv.client.atomic import check_value
from provisioner.kv.codec import json_notation, value
from provisioner.kv.errors import KvError, OptionInvalid, ValueInvalid
from provisioner.kv.model import NEVER, RegExp, StoredRow

_NOTATION: Final = "Use a value such as 90min, 7d, or 2030-01-31T12:00:00Z, or leave it empty"
LONGEST: Final = 700_000  # bytes of a form, and of a page, which both must stay below a million
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_SEALED: Final = struct.Struct(">Bq")


class Spelling(StrEnum):
    JSON = "json"
    TEXT = "text"
    HEX = "hex"


def stored(spelling: str, text: str) -> tuple[bytes, int]:
    """The bytes of a value and their encoding. Raises ValueInvalid, LimitExceeded."""
    data, encoding = value.encode(_value(spelling, text))
    check_value(data)
    return data, encoding


def _value(spelling: str, text: str) -> Any:
    if spelling == Spelling.TEXT:
        return text.replace("\r\n", "\n")  # browsers send each line break of a form as two characters
    if spelling == Spelling.HEX:
        try:
            return bytes.fromhex(text)
        except ValueError as error:
            raise ValueInvalid("bytes in hex are pairs of the digits 0 to 9 and a to f") from error
    try:
        return json_notation.value_of(text)
    except ValueInvalid as error:
        if isinstance(cause := error.__cause__, json.JSONDecodeError):
            raise ValueInvalid(f"{cause.msg} in line {cause.lineno}, column {cause.colno}: {error}") from error
        raise


def spelled(row: StoredRow) -> tuple[Spelling, str]:
    """A value for editing. Raises ValueInvalid, with the reason if it cannot be edited."""
    try:
        decoded = value.decode(row[1], row[2], ordered=True)
        if type(decoded) is bytes:
            return Spelling.HEX, decoded.hex(" ")
        text = _written(decoded, len(row[1]))
    except ValueInvalid:
        raise
    except (KvError, RecursionError) as error:
        raise ValueInvalid(str(error)) from error
    if max(len(quote_plus(text)), len(escape(text).encode())) > LONGEST:
        raise ValueInvalid("its JSON is too long for a form. Use: provisioner kv set")
    return Spelling.JSON, text


def fixed(row: StoredRow) -> str:
    """Why a value cannot be edited; empty if it can."""
    try:
        spelled(row)
    except ValueInvalid as error:
        return str(error)
    return ""


def _written(decoded: Any, size: int) -> str:
    document = json_notation.to_json(decoded, size)
    if other := next(_others(document), ""):
        raise ValueInvalid(f"JSON has no notation for what it is or holds: {other:.200}")
    if _shares(decoded, set()):
        raise ValueInvalid("it holds the same object in several places, which JSON would turn into several objects")
    text = json.dumps(document, ensure_ascii=False)
    again = value.decode(*value.encode(json_notation.value_of(text)), ordered=True)
    if json.dumps(json_notation.to_json(again, size), ensure_ascii=False) != text:
        raise ValueInvalid("its JSON does not represent all of it")
    return _visible(json_notation.indented(document))


def _others(document: Any) -> Iterator[str]:
    if isinstance(document, list):
        for item in document:
            yield from _others(item)
    elif isinstance(document, dict):
        if list(document) == ["$other"]:
            yield document["$other"]
        inner = document["$object"] if list(document) == ["$object"] else document
        for item in inner.values():
            yield from _others(item)


def _shares(decoded: Any, seen: set[int]) -> bool:
    """Whether an object is in it twice."""
    if isinstance(decoded, (datetime, bytes, RegExp)):
        again = len(decoded) > 1 if isinstance(decoded, bytes) else True  # Python has each of the shortest once
        return again and _again(decoded, seen)
    if not isinstance(decoded, (Mapping, list, Set)):
        return False
    if _again(decoded, seen):
        return True
    items = [*decoded.keys(), *decoded.values()] if isinstance(decoded, Mapping) else decoded
    return any(_shares(item, seen) for item in items)


def _again(found: object, seen: set[int]) -> bool:
    known = id(found) in seen
    seen.add(id(found))
    return known


def _visible(text: str) -> str:
    """JSON with control characters escaped, which is equal JSON."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def expiry_text(expire_at: int) -> str:
    """Empty for an entry that does not expire."""
    return "" if expire_at == NEVER else rfc3339(expire_at) or ""


def expiry(text: str, now: int) -> int:
    """The typed time in milliseconds since 1970, or NEVER. Raises OptionInvalid."""
    text = text.strip()
    if text in ("", "never"):
        return NEVER
    if "-" not in text:
        try:
            return now + durations.milliseconds(text)
        except UsageError as error:
            raise OptionInvalid(f"{error.message}. {_NOTATION}") from error
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise OptionInvalid(f"{text!r} is not a time. {_NOTATION}") from error
    if moment.tzinfo is None:
        raise OptionInvalid(f"{text!r} has no time zone. Use a value such as {text}Z")
    at = (moment - _EPOCH) // _MILLISECOND
    if at <= now:
        raise OptionInvalid(f"{text!r} has passed")
    return at


def sealed(row: StoredRow) -> str:
    """The entry that was seen, for a hidden field."""
    return (
        base64.urlsafe_b64encode(_SEALED.pack(row[2] & 0xFF, row[4]) + value_display.as_bytes(row[1]))
        .decode()
        .rstrip("=")
    )


def unsealed(text: str, key: bytes, versionstamp: str) -> StoredRow | None:
    """The entry that was seen, from a hidden field: only for its own reader. None if the field is invalid."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        encoding, expire_at = _SEALED.unpack_from(data)
        version = int.from_bytes(bytes.fromhex(versionstamp)[:8], "big")
    except (binascii.Error, ValueError, struct.error):
        return None
    return key, data[_SEALED.size :], encoding, version, expire_at
