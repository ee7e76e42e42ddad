"""Entries on their way out, written by hand: building messages of them takes several times as long."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.kv.local_store import Row
from provisioner.kv.model import Encoding

_LONGEST: Final = 0x3FFF  # sizes up to here take at most two bytes, and stand in tables
_ONE_BYTE: Final = 0x7F
_STAMP_BYTES: Final = 2 + 2 + 10  # the encoding, and the versionstamp with its tag and size
_NOBODY: Final = b"\0\0"  # the end of each versionstamp
_VERSION: Final = Struct(">q").pack
_STRONG: Final = pb.SnapshotReadOutput(status=pb.SR_SUCCESS, read_is_strongly_consistent=True).SerializeToString()
_ENDING: Final = _NOBODY + _STRONG
_LAGGING: Final = pb.SnapshotReadOutput(status=pb.SR_SUCCESS, read_is_strongly_consistent=False).SerializeToString()


def read_answer(answers: Sequence[Sequence[Row]], *, latest: bool = True) -> bytes:
    """The rows of each range as a SnapshotReadOutput."""
    if not latest:
        return read_answer(answers).removesuffix(_STRONG) + _LAGGING
    if len(answers) == 1 and len(answers[0]) == 1:
        return _one(*answers[0][0])
    pieces: list[bytes] = []
    for rows in answers:
        inner: list[bytes] = []
        for key, value, encoding, version in rows:
            if len(key) + len(value) > _LONGEST - 64:
                inner += _large(key, value, encoding, version)
                continue
            key_head, value_head = _HEADS[len(key)], _VALUES[len(value)]
            size = len(key) + len(value) + len(key_head) + len(value_head) + _STAMP_BYTES
            # other programs may store nonsense as the encoding
            kind = _KINDS.get(encoding, _UNKNOWN)
            inner += (_HEADS[size], key_head, key, value_head, value, kind, _VERSION(version), _NOBODY)
        written = b"".join(inner)
        pieces += (_head(b"\x0a", len(written)), written)
    pieces.append(_STRONG)
    return b"".join(pieces)


def _one(key: bytes, value: bytes, encoding: int, version: int) -> bytes:
    """The most frequent answer."""
    key_size, value_size = len(key), len(value)
    if key_size + value_size > _LONGEST - 64:
        entry = b"".join(_large(key, value, encoding, version))
        return b"".join((_head(b"\x0a", len(entry)), entry, _STRONG))
    key_head, value_head = _HEADS[key_size], _VALUES[value_size]
    size = key_size + value_size + len(key_head) + len(value_head) + _STAMP_BYTES
    head = _HEADS[size]
    range_head, kind = _HEADS[size + len(head)], _KINDS.get(encoding, _UNKNOWN)
    return b"".join((range_head, head, key_head, key, value_head, value, kind, _VERSION(version), _ENDING))


def _large(key: bytes, value: bytes, encoding: int, version: int) -> tuple[bytes, ...]:
    key_head, value_head = _head(b"\x0a", len(key)), _head(b"\x12", len(value))
    size = len(key) + len(value) + len(key_head) + len(value_head) + _STAMP_BYTES
    kind = _KINDS.get(encoding, _UNKNOWN)
    return (_head(b"\x0a", size), key_head, key, value_head, value, kind, _VERSION(version), _NOBODY)


def _head(tag: bytes, size: int) -> bytes:
    """A field's tag and size."""
    found = bytearray(tag)
    while size > _ONE_BYTE:
        found.append(size & _ONE_BYTE | 0x80)
        size >>= 7
    found.append(size)
    return bytes(found)


_HEADS: Final = [_head(b"\x0a", size) for size in range(_LONGEST + 1)]  # of an entry, and of its key
_VALUES: Final = [_head(b"\x12", size) for size in range(_LONGEST + 1)]
_KINDS: Final = {int(encoding): b"\x18%c\x22\x0a" % encoding for encoding in Encoding}
_UNKNOWN: Final = b"\x18\x00\x22\x0a"
