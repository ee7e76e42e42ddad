"""Keys and values for people: every type by its name, and in the notation that `provisioner kv` takes.

A writer must not control how long a page takes: lists show only the start of each value, and a page that has read
for a second lists the remaining ones without reading them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import thread_time
from typing import Any, Final

from provisioner.kv.codec import json_notation, json_preview, key, value
from provisioner.kv.dump import json_lines
from provisioner.kv.errors import KvError, ValueInvalid
from provisioner.kv.model import NEVER, UNDEFINED, BigInt, Encoding, JSDate, KvU64, RegExp, StoredRow

PREVIEW: Final = 160  # characters
SECONDS: Final = 1.0  # of a page's processor time
DUMPED: Final = 4096  # bytes
_KINDS: Final[tuple[tuple[type, str], ...]] = (  # in order: a bool is an int, and so on
    (bool, "boolean"),
    (KvU64, "KvU64"),
    (BigInt, "bigint"),
    (JSDate, "Date"),
    (int, "number"),
    (float, "number"),
    (str, "string"),
    (bytes, "Uint8Array"),
    (datetime, "Date"),
    (RegExp, "RegExp"),
    (list, "Array"),
    (dict, "object"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry: `key` in notation (None: the bytes are not a key), `id` its bytes in hex. `text` is the whole value, or in a
    list its start, `dump` its bytes if it is binary. `problem` is the reason if it cannot be read. `expire_at` in milliseconds
    since 1970."""

    id: str
    key: str | None
    kind: str
    text: str
    dump: str
    problem: str
    size: int
    versionstamp: str
    expire_at: int | None


def entry(row: StoredRow) -> Shown:
    """All of it."""
    size = len(as_bytes(row[1]))
    return _shown(row, lambda decoded: json_notation.indented(json_notation.to_json(decoded, size)))


class EntryPage:
    """The entries of one page of a list."""

    def __init__(self) -> None:
        self._until = thread_time() + SECONDS

    def entry(self, row: StoredRow) -> Shown:
        """With the start of its value."""
        if thread_time() > self._until:
            return _shown(row, None)
        return _shown(row, lambda decoded: json_preview.preview(decoded, PREVIEW))


def _shown(row: StoredRow, spell: Callable[[Any], str] | None) -> Shown:
    """`spell` None: it is not read."""
    data, stored, encoding, version, expire_at = row
    kind, text, problem = "", "", ""
    try:
        if spell is None:
            raise ValueInvalid("the values above took long to read; open this one to see it")
        decoded = value.decode(stored, encoding, ordered=True)
        kind = _kind(decoded)
        text = spell(decoded)
    except (KvError, RecursionError) as error:
        kind, problem = kind or ("" if spell is None else "unreadable"), str(error)
    raw = problem != "" or encoding == Encoding.BYTES
    return Shown(
        data.hex(),
        key_text(data),
        kind,
        text,
        dump(as_bytes(stored)) if raw else "",
        problem,
        len(as_bytes(stored)),
        "" if version is None else json_lines.stamp(version),
        None if expire_at == NEVER else expire_at,
    )


def as_bytes(stored: object) -> bytes:
    """Includes what another program stored as text or a number."""
    return stored if isinstance(stored, bytes) else str(stored).encode("utf-8", "surrogatepass")


def key_text(data: bytes) -> str | None:
    """The key as JSON; None for bytes that are not a key."""
    try:
        return json_notation.text_of([json_notation.to_json(part) for part in key.decode(data)])
    except KvError:
        return None


def dump(data: bytes) -> str:
    """Bytes as hex and as text, sixteen a line."""
    lines = []
    for at in range(0, min(len(data), DUMPED), 16):
        piece = data[at : at + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in piece)
        lines.append(f"{at:08x}  {piece.hex(' '):<47}  {letters}")
    if len(data) > DUMPED:
        lines.append(f"… {len(data) - DUMPED} more bytes")
    return "\n".join(lines)


def _kind(decoded: Any) -> str:
    if decoded is None:
        return "null"
    if decoded is UNDEFINED:
        return "undefined"
    for kind, name in _KINDS:
        if isinstance(decoded, kind):
            return name
    name = type(decoded).__name__
    return {"JSMap": "Map", "GatheredSet": "Set", "set": "Set", "frozenset": "Set"}.get(name, name.removeprefix("JS"))
