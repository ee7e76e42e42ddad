"""Between the messages of the wire and the words of the store: the only place where what came is judged.

Raises `Refused` with a 4xx status for all that a client must not try again: it is never the server's failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.connect.protocol.http_errors import BAD_REQUEST, TOO_LARGE, Refused
from provisioner.kv import limits
from provisioner.kv.client.atomic import LATEST_EXPIRY, checked
from provisioner.kv.codec import key as keys
from provisioner.kv.errors import KeyInvalid, LimitExceeded, Malformed
from provisioner.kv.model import (
    AtomicWrite,
    Check,
    ChecksFailed,
    Committed,
    Encoding,
    Enqueue,
    Mutation,
    MutationKind,
    RawEntry,
    ReadRange,
)

READ_BYTES: Final = 65_536  # ten ranges have at most 40 KB of keys
WRITE_BYTES: Final = 2 * 1024 * 1024  # the limits of an atomic operation allow about half of it
WATCH_BYTES: Final = 65_536

_KINDS: Final = {
    pb.M_SET: MutationKind.SET,
    pb.M_DELETE: MutationKind.DELETE,
    pb.M_SUM: MutationKind.SUM,
    pb.M_MAX: MutationKind.MAX,
    pb.M_MIN: MutationKind.MIN,
    pb.M_SET_SUFFIX_VERSIONSTAMPED_KEY: MutationKind.SET_VERSIONSTAMPED,
}
_DELETE: Final = MutationKind.DELETE  # an enum's member is found slowly
_SET: Final = MutationKind.SET
_SET_VERSIONSTAMPED: Final = MutationKind.SET_VERSIONSTAMPED
_LE64: Final = int(Encoding.LE64)
_OTHERS: Final = (int(Encoding.V8), int(Encoding.BYTES))
_NEVER: Final = -1
INTERVALS: Final = 100
"""The most intervals of a backoff schedule. Deno accepts five of at most an hour; denokv for Python sends ten by default."""
_NUMBER_BYTES: Final = 8
_VERSIONSTAMP_BYTES: Final = 10
# An AtomicWriteOutput up to the bytes of its versionstamp.
_COMMITTED: Final = pb.AtomicWriteOutput(status=pb.AW_SUCCESS).SerializeToString() + b"\x12\x0a"
_MALFORMED: Final = "the body is not a message of KV Connect"
_TOO_MANY_FIELDS: Final = f"an atomic operation has at most {limits.CHECKS} checks and {limits.MUTATIONS} mutations"
_FEW_BYTES: Final = 16_384
_VARINT, _LENGTH = 0, 2
_FIXED: Final = {1: 8, 5: 4}  # bytes; the obsolete groups, which no client sends, end the look
_SUCCESS: Final = pb.SR_SUCCESS
# Tags of the fields of a SnapshotRead with one range: the bytes of its point are these, sizes of one byte, and the key
# twice, the second time with a zero behind.
_ONE_BYTE: Final = 0x7F
_RANGES: Final = 0x0A
_START: Final = 0x0A
_END: Final = 0x12
_LIMIT_ONE: Final = b"\x18\x01"
_AROUND_A_POINT: Final = 2 + 2 + 2 + 1 + 2


def ranges_of(body: bytes) -> tuple[list[ReadRange], int]:
    """What a SnapshotRead asks for, and how many entries at most."""
    if (point := _point(body)) is not None:
        return point, 1
    try:
        message = pb.SnapshotRead.FromString(body)
    except DecodeError as error:
        raise Refused(BAD_REQUEST, _MALFORMED) from error
    if len(message.ranges) > limits.READ_RANGES:
        raise Refused(BAD_REQUEST, f"a read has at most {limits.READ_RANGES} ranges, not {len(message.ranges)}")
    ranges = []
    total = 0
    for each in message.ranges:
        start, end, limit = each.start, each.end, each.limit
        if limit <= 0:
            raise Refused(BAD_REQUEST, f"the limit of a range is at least 1, not {limit}")
        if len(start) > limits.KEY_READ or len(end) > limits.KEY_READ:
            raise Refused(BAD_REQUEST, f"a key to read has at most {limits.KEY_READ} bytes")
        total += limit
        ranges.append(ReadRange(start, end, limit, each.reverse))
    if total > limits.READ_ENTRIES:
        raise Refused(BAD_REQUEST, f"a read has at most {limits.READ_ENTRIES} entries, not {total}")
    return ranges, total


def _point(body: bytes) -> list[ReadRange] | None:
    """The most frequent read, of one short key as Deno writes it, in a third of the time; None for all others."""
    size = len(body)
    if size > _ONE_BYTE or size < _AROUND_A_POINT or body[-2:] != _LIMIT_ONE:
        return None
    width = body[3]
    if body[0] != _RANGES or body[1] != size - 2 or body[2] != _START or size != 2 * width + _AROUND_A_POINT:
        return None
    middle = width + 4
    start = body[4:middle]
    if body[middle] != _END or body[middle + 1] != width + 1 or body[middle + 2 : -2] != start + b"\0":
        return None
    return [ReadRange(start, start + b"\0", 1)]


def write_of(body: bytes) -> AtomicWrite:
    """What an AtomicWrite asks for, within Deno's limits."""
    _must_have_few_fields(body)
    try:
        message = pb.AtomicWrite.FromString(body)
    except DecodeError as error:
        raise Refused(BAD_REQUEST, _MALFORMED) from error
    if len(message.checks) > limits.CHECKS or len(message.mutations) + len(message.enqueues) > limits.MUTATIONS:
        raise Refused(BAD_REQUEST, _TOO_MANY_FIELDS)
    write = AtomicWrite(
        tuple([_check(check) for check in message.checks]),
        tuple([_mutation(mutation) for mutation in message.mutations]),
        tuple([_enqueue(enqueue) for enqueue in message.enqueues]),
    )
    try:
        return checked(write)
    except LimitExceeded as error:
        raise Refused(TOO_LARGE, str(error)) from error
    except KeyInvalid as error:
        raise Refused(BAD_REQUEST, str(error)) from error


def write_answer(outcome: Committed | ChecksFailed) -> bytes:
    """What came of it as an AtomicWriteOutput."""
    if isinstance(outcome, Committed):
        return _COMMITTED + outcome.versionstamp
    return pb.AtomicWriteOutput(status=pb.AW_CHECK_FAILURE, failed_checks=outcome.indexes).SerializeToString()


def watched_keys(body: bytes) -> list[bytes]:
    """What a Watch wants to hear of."""
    try:
        message = pb.Watch.FromString(body)
    except DecodeError as error:
        raise Refused(BAD_REQUEST, _MALFORMED) from error
    if len(message.keys) > limits.WATCHED_KEYS:
        raise Refused(BAD_REQUEST, f"a watch has at most {limits.WATCHED_KEYS} keys, not {len(message.keys)}")
    found = [each.key for each in message.keys]
    if any(len(key) > limits.KEY_READ for key in found):
        raise Refused(BAD_REQUEST, f"a key to watch has at most {limits.KEY_READ} bytes")
    return found


def watch_frame(entries: Sequence[RawEntry | None]) -> bytes:
    """The state of each watched key as a frame of the stream, including those that are unchanged.

    The protocol allows to leave out what has not changed. Deno 2.9 takes that for absent.
    """
    output = pb.WatchOutput(status=_SUCCESS)
    for entry in entries:
        answer = output.keys.add(changed=True)
        if entry is not None:
            key, value, encoding, versionstamp = entry
            answer.entry_if_changed.key = key
            answer.entry_if_changed.value = value
            answer.entry_if_changed.encoding = encoding  # type: ignore[assignment]
            answer.entry_if_changed.versionstamp = versionstamp
    message = output.SerializeToString()
    return len(message).to_bytes(4, "little") + message


KEEP_ALIVE: Final = bytes(4)


def _must_have_few_fields(body: bytes) -> None:
    """For a large body: parsed, each field of two bytes would be an object of a hundred.

    https://protobuf.dev/programming-guides/encoding says how fields follow each other. What is malformed is left to the parser.
    """
    if len(body) <= _FEW_BYTES:
        return
    at = fields = 0
    while at < len(body):
        fields += 1
        if fields > limits.CHECKS + limits.MUTATIONS:
            raise Refused(BAD_REQUEST, _TOO_MANY_FIELDS)
        tag, at = _varint(body, at)
        kind = tag & 7
        size, at = _varint(body, at) if kind in (_VARINT, _LENGTH) else (_FIXED.get(kind, len(body)), at)
        at += size if kind != _VARINT else 0


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """The number there, and what follows it. One that has no end within ten bytes goes to the end of the body."""
    number = 0
    for shift, byte in enumerate(body[at : at + 10]):
        number |= (byte & 127) << 7 * shift
        if byte < 128:
            return number, at + shift + 1
    return len(body), len(body)


def _check(message: pb.Check) -> Check:
    versionstamp = message.versionstamp
    if versionstamp and len(versionstamp) != _VERSIONSTAMP_BYTES:
        raise Refused(BAD_REQUEST, f"a versionstamp has {_VERSIONSTAMP_BYTES} bytes, not {len(versionstamp)}")
    return Check(message.key, versionstamp or None)


def _mutation(message: pb.Mutation) -> Mutation:
    kind = _KINDS.get(message.mutation_type)
    if kind is None:
        raise Refused(BAD_REQUEST, f"there is no mutation of type {message.mutation_type}")
    key = message.key
    _must_be_a_key(key)
    if kind is _DELETE:
        return Mutation(kind, key)
    data, encoding = _value(message.value)
    if kind is _SET or kind is _SET_VERSIONSTAMPED:
        expire_at = message.expire_at_ms
        return Mutation(kind, key, data, encoding, min(expire_at, LATEST_EXPIRY) if expire_at > 0 else _NEVER)
    return Mutation(kind, key, data, encoding, _NEVER, message.sum_min, message.sum_max, message.sum_clamp)


def _value(message: pb.KvValue) -> tuple[bytes, int]:
    """Bytes that a reader can decode: an LE64 of another length ends the process of a Deno that reads it."""
    data, encoding = message.data, int(message.encoding)
    if encoding == _LE64:
        if len(data) != _NUMBER_BYTES:
            raise Refused(BAD_REQUEST, f"a KvU64 has {_NUMBER_BYTES} bytes, not {len(data)}")
    elif encoding not in _OTHERS:
        raise Refused(BAD_REQUEST, f"there is no value encoding {encoding}")
    elif len(data) > limits.VALUE:
        raise Refused(TOO_LARGE, f"a value has at most {limits.VALUE} bytes, not {len(data)}")
    return data, encoding


def _enqueue(message: pb.Enqueue) -> Enqueue:
    if len(message.backoff_schedule) > INTERVALS or max(message.backoff_schedule, default=0) > limits.DELAY:
        raise Refused(BAD_REQUEST, f"a backoff schedule has at most {INTERVALS} intervals of at most 30 days")
    if len(message.keys_if_undelivered) > limits.MUTATIONS:
        raise Refused(BAD_REQUEST, f"a message has at most {limits.MUTATIONS} keys for where it is not delivered")
    backoff = tuple(message.backoff_schedule)
    undelivered = tuple(message.keys_if_undelivered)
    for key in undelivered:
        _must_be_a_key(key)
    return Enqueue(message.payload, message.deadline_ms, undelivered, backoff)


def _must_be_a_key(key: bytes) -> None:
    """Stored, other bytes would stop every list that contains them."""
    try:
        keys.check_written(key)
        keys.decode(key)
    except LimitExceeded as error:
        raise Refused(TOO_LARGE, str(error)) from error
    except (KeyInvalid, Malformed) as error:
        raise Refused(BAD_REQUEST, str(error)) from error
