"""Messages that are written by hand are what the library would have made of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.connect.protocol import datapath_pb2 as pb
from provisioner.connect.protocol.http_errors import Refused
from provisioner.connect.server import decode
from provisioner.connect.server.encode import read_answer
from provisioner.kv.local_store import Row
from provisioner.kv.model import ReadRange

SIZES = st.sampled_from([0, 1, 126, 127, 128, 16_381, 16_382, 16_383, 16_384, 16_385, 65_536])
ROWS = st.builds(
    lambda key, value, encoding, version: (b"k" * key, b"v" * value, encoding, version),
    st.sampled_from([1, 126, 127, 128, 129, 2048]),
    SIZES,
    st.sampled_from([1, 2, 3]),
    st.integers(0, 2**63 - 1),
)


@given(st.lists(st.lists(ROWS, max_size=4), max_size=3))
def test_entries_that_were_read(answers: list[list[Row]]) -> None:
    wanted = pb.SnapshotReadOutput(status=pb.SR_SUCCESS, read_is_strongly_consistent=True)
    for rows in answers:
        values = wanted.ranges.add().values
        for key, value, encoding, version in rows:
            versionstamp = version.to_bytes(8, "big") + bytes(2)
            values.add(key=key, value=value, encoding=encoding, versionstamp=versionstamp)
    assert pb.SnapshotReadOutput.FromString(read_answer(answers)) == wanted


def test_an_encoding_that_another_program_made_up_is_told_as_unknown() -> None:
    for encoding in (-1, 0, 4, 128, 10**9):
        answer = read_answer([[(b"k", b"v", encoding, 1)]])
        assert pb.SnapshotReadOutput.FromString(answer).ranges[0].values[0].encoding == 0


KEYS = st.one_of(st.binary(max_size=70), st.binary(max_size=70).map(lambda key: key + b"\0"))


@given(KEYS, KEYS, st.booleans(), st.integers(0, 2), st.booleans(), st.binary(max_size=3))
def test_a_point_that_is_read(start: bytes, end: bytes, same: bool, limit: int, reverse: bool, more: bytes) -> None:
    wanted = pb.ReadRange(start=start, end=start + b"\0" if same else end, limit=limit, reverse=reverse)
    _is_read_as_the_library_does(pb.SnapshotRead(ranges=[wanted]).SerializeToString())
    _is_read_as_the_library_does(pb.SnapshotRead(ranges=[wanted]).SerializeToString() + more)


@given(st.binary(max_size=60), st.binary(max_size=130))
def test_bytes_that_are_nearly_a_point(key: bytes, noise: bytes) -> None:
    wanted = pb.ReadRange(start=key, end=key + b"\0", limit=1)
    body = bytearray(pb.SnapshotRead(ranges=[wanted]).SerializeToString())
    for at, byte in enumerate(noise[: len(body)]):
        if byte < 8:
            body[at] ^= 1 << byte
    _is_read_as_the_library_does(bytes(body))


def _is_read_as_the_library_does(body: bytes) -> None:
    point = decode._point(body)
    if point is not None:
        message = pb.SnapshotRead.FromString(body)
        assert [ReadRange(each.start, each.end, each.limit, each.reverse) for each in message.ranges] == point
        try:
            assert decode.ranges_of(body) == (point, 1)
        except Refused:
            raise AssertionError("a point is no reason to refuse") from None
