"""When the lines of a log were written: beside it, through rotation, and when there is no such file."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.core.redaction import RedactedStream, Redactor
from provisioner.runs import log_times, output
from provisioner.runs.log_times import LogTimes, times_path
from provisioner.runs.output import OLDER, OutputLog, RotatedLog


class Clock:
    now = 1_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(log_times, "now_ms", found)
    return found


def test_each_line_has_the_time_at_which_it_was_written(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "run.log"
    path.write_bytes(b"a warning from before\n")
    with path.open("ab") as file:
        log = OutputLog(file.fileno(), str(path), RedactedStream(Redactor([])))
        for clock.now in (2_000, 3_000, 3_001):
            log.write(b"line\n")
        log.close()
    assert path.read_bytes() == b"a warning from before\n" + b"line\n" * 3
    times = LogTimes(str(path), began=7)
    assert [times.at(offset) for offset in (0, 22, 27, 32, 10**9)] == [7, 2_000, 3_000, 3_000, 3_000]
    assert [times.since(moment) for moment in (0, 2_000, 2_001, 3_000, 3_001, 10**9)] == [0, 0, 22, 22, 27, 27]
    assert LogTimes(str(tmp_path / "none"), began=7).at(5) == 7


def test_the_times_of_a_full_log_go_with_it(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MOST_ROTATED_BYTES", 60)  # of which times have 32
    path = str(tmp_path / "app.log")
    log = RotatedLog(path, RedactedStream(Redactor([])))
    for clock.now in (2_000, 3_000, 4_000):
        log.write(b"ten bytes\n")
    log.close()
    assert [LogTimes(path + OLDER, 0).at(offset) for offset in (0, 10)] == [2_000, 3_000]
    assert LogTimes(path, 0).at(0) == 4_000
    assert Path(times_path(path)).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["rotated", "with an end"])
def test_a_log_that_is_written_a_byte_at_a_time_is_no_longer_with_its_times(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for name in ("MOST_ROTATED_BYTES", "MOST_LOG_BYTES"):
        monkeypatch.setattr(output, name, 1000)
    path, stream = tmp_path / "app.log", RedactedStream(Redactor([]))
    with path.open("ab") as file:
        log = RotatedLog(str(path), stream) if kind == "rotated" else OutputLog(file.fileno(), str(path), stream)
        for clock.now in range(1_000, 21_000, 10):
            log.write(b"\n")
        log.close()
    for name in (str(path), str(path) + OLDER):
        held = [Path(each).stat().st_size for each in (name, times_path(name)) if Path(each).exists()]
        assert sum(held) <= 1000 + 100, held
