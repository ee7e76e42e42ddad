"""Messages that are written by hand are what the library would have made of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.connect import convert
from provisioner.connect import datapath_pb2 as wire
from provisioner.kv.model import RawEntry

SIZES = st.sampled_from([0, 1, 126, 127, 128, 16_381, 16_382, 16_383, 16_384, 16_385, 65_536])
ENTRIES = st.builds(
    lambda key, value, encoding, stamp: RawEntry(b"k" * key, b"v" * value, encoding, stamp.to_bytes(10, "big")),
    st.sampled_from([1, 126, 127, 128, 129, 2048]),
    SIZES,
    st.sampled_from([1, 2, 3]),
    st.integers(0, 2**80 - 1),
)


@given(st.lists(st.lists(ENTRIES, max_size=4), max_size=3))
def test_entries_that_were_read(answers: list[list[RawEntry]]) -> None:
    wanted = wire.SnapshotReadOutput(status=wire.SR_SUCCESS, read_is_strongly_consistent=True)
    for entries in answers:
        values = wanted.ranges.add().values
        for key, value, encoding, versionstamp in entries:
            values.add(key=key, value=value, encoding=encoding, versionstamp=versionstamp)
    assert wire.SnapshotReadOutput.FromString(convert.read_answer(answers)) == wanted


def test_an_encoding_that_another_program_made_up_is_told_as_unknown() -> None:
    for encoding in (-1, 0, 4, 128, 10**9):
        answer = convert.read_answer([[RawEntry(b"k", b"v", encoding, bytes(10))]])
        assert wire.SnapshotReadOutput.FromString(answer).ranges[0].values[0].encoding == 0
