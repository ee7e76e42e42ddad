"""Between the words of the store and the messages of the wire, as a client has it: the other way round than `convert`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from provisioner.connect.client.metadata import ProtocolViolation
from provisioner.connect.client.retries import RequestRefused
from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.connect.protocol.http_errors import FAILED
from provisioner.kv import limits
from provisioner.kv.errors import (
    AccessDenied,
    KvError,
    LimitExceeded,
    OptionInvalid,
    OutOfRange,
    ReadOnly,
    StoreFailed,
    TypeMismatch,
    Uncertain,
)
from provisioner.kv.model import AtomicWrite, ChecksFailed, Committed, MutationKind, RawEntry, ReadRange

VERSIONSTAMP_BYTES: Final = 10

_TYPES: Final = {
    MutationKind.SET: pb.M_SET,
    MutationKind.DELETE: pb.M_DELETE,
    MutationKind.SUM: pb.M_SUM,
    MutationKind.MIN: pb.M_MIN,
    MutationKind.MAX: pb.M_MAX,
    MutationKind.SET_VERSIONSTAMPED: pb.M_SET_SUFFIX_VERSIONSTAMPED_KEY,
}


class Disabled(Exception):  # noqa: N818 - named for what happened
    """This endpoint no longer serves it, or not with the requested consistency."""


def read_request(ranges: Sequence[ReadRange]) -> bytes:
    message = pb.SnapshotRead()
    add = message.ranges.add
    for start, end, limit, reverse in ranges:
        add(start=start, end=end, limit=limit, reverse=reverse)
    return message.SerializeToString()


def entries_of(body: bytes, ranges: Sequence[ReadRange], *, strong: bool) -> list[list[RawEntry]]:
    """The entries of each range. Raises Disabled, Strange."""
    try:
        message = pb.SnapshotReadOutput.FromString(body)
    except DecodeError as error:
        raise ProtocolViolation("its answer to a read is not such a message") from error
    if message.read_disabled or message.status == pb.SR_READ_DISABLED:
        raise Disabled("reads are disabled")
    if message.status != pb.SR_SUCCESS:
        raise ProtocolViolation(f"its answer to a read has the status {message.status}")
    if strong and not message.read_is_strongly_consistent:
        raise Disabled("the read was not strongly consistent")
    if len(message.ranges) != len(ranges):
        raise ProtocolViolation(f"it answers {len(ranges)} ranges with {len(message.ranges)}")
    return [_range(each.values, wanted) for each, wanted in zip(message.ranges, ranges, strict=True)]


def _range(values: Sequence[pb.KvEntry], wanted: ReadRange) -> list[RawEntry]:
    start, end, limit, _ = wanted
    entries = [RawEntry(each.key, each.value, each.encoding, each.versionstamp) for each in values]
    if len(entries) > limit:
        raise ProtocolViolation(f"it answers a range of at most {limit} entries with {len(entries)}")
    for key, _, _, versionstamp in entries:
        if not start <= key < end or len(versionstamp) != VERSIONSTAMP_BYTES:
            raise ProtocolViolation("it answers with an entry that was not asked for, or without a versionstamp")
    return entries


def write_request(write: AtomicWrite) -> bytes:
    message = pb.AtomicWrite()
    for key, versionstamp in write.checks:
        message.checks.add(key=key, versionstamp=versionstamp or b"")
    for kind, key, value, encoding, expire_at, sum_min, sum_max, sum_clamp in write.mutations:
        mutation = message.mutations.add(key=key, mutation_type=_TYPES[kind])
        if kind is MutationKind.DELETE:
            continue
        mutation.value.data = value
        mutation.value.encoding = encoding  # type: ignore[assignment]
        mutation.expire_at_ms = expire_at
        if kind is MutationKind.SUM:
            mutation.sum_min, mutation.sum_max, mutation.sum_clamp = sum_min, sum_max, sum_clamp
    for payload, deliver_at, keys, backoff in write.enqueues:
        schedule = limits.BACKOFF_DEFAULT if backoff is None else backoff
        message.enqueues.add(
            payload=payload, deadline_ms=deliver_at, keys_if_undelivered=keys, backoff_schedule=schedule
        )
    return message.SerializeToString()


def outcome_of(body: bytes, write: AtomicWrite) -> Committed | ChecksFailed:
    """What came of a write. Raises ReadOnly, Strange."""
    try:
        message = pb.AtomicWriteOutput.FromString(body)
    except DecodeError as error:
        raise ProtocolViolation("its answer to a write is not such a message") from error
    if message.status == pb.AW_SUCCESS and len(message.versionstamp) == VERSIONSTAMP_BYTES:
        return Committed(message.versionstamp)
    if message.status == pb.AW_CHECK_FAILURE and write.checks:
        failed = tuple(message.failed_checks)
        if all(index < len(write.checks) for index in failed):
            return ChecksFailed(failed)
    if message.status == pb.AW_WRITE_DISABLED:
        raise ReadOnly("the server takes no writes for this database")
    raise ProtocolViolation(f"its answer to a write has the status {message.status} and does not fit")


def watch_request(keys: Sequence[bytes]) -> bytes:
    return pb.Watch(keys=[pb.WatchKey(key=key) for key in keys]).SerializeToString()


def watch_frame(frame: bytes, keys: Sequence[bytes]) -> None:
    """Judge a frame of a watch. Raises Disabled, Strange."""
    try:
        message = pb.WatchOutput.FromString(frame)
    except DecodeError as error:
        raise ProtocolViolation("a frame of its watch is not such a message") from error
    if message.status == pb.SR_READ_DISABLED:
        raise Disabled("reads are disabled")
    if message.status != pb.SR_SUCCESS or len(message.keys) != len(keys):
        raise ProtocolViolation("a frame of its watch does not fit")


def error_of(refusal: RequestRefused, *, writing: bool = False) -> KvError:
    """The error that a refusal is here."""
    status, text = refusal.status, refusal.text
    if status == FAILED and writing:
        return Uncertain(
            f"it may have been written or not, for the server failed: {text}. Read before you write it again"
        )
    if status == 403 and writing:
        return ReadOnly(text)
    if status == 401 or status == 403:
        return AccessDenied(text)
    if status == 413:
        return LimitExceeded(text)
    if status != 400:
        return StoreFailed(f"the server answered {refusal}")
    for words, kind in _WORDS:
        if words in text:
            return kind(text)
    return OptionInvalid(text)


_WORDS: Final = (
    ("mutation on a non-U64", TypeMismatch),
    ("Cannot sum ", TypeMismatch),
    ("unsupported value type", TypeMismatch),
    ("Min/max parameters", TypeMismatch),
    ("not valid V8 values", TypeMismatch),
    ("invalid v8 value", TypeMismatch),
    ("exceed its range limit", OutOfRange),
)
"""Deno's own words for what an operation met. Servers answer with them, since Deno's users see them."""
