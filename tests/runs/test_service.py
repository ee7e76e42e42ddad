"""Commands that run until they are ended: asked first, with everything that they started, and whatever happens to us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

from support import until

from provisioner.runs.process import Command, shell
from provisioner.runs.run_mark import RUN, marked
from provisioner.runs.service import Service
from provisioner.runs.supervisors import SpareSupervisors


def _command(tmp_path: Path, text: str, **limits: int) -> Command:
    return Command(shell(text), str(tmp_path), 0, {"PATH": os.environ["PATH"]}, **limits)  # type: ignore[arg-type]


def _said(log: Path) -> str:
    return log.read_text() if log.exists() else ""


def _processes(run_id: str) -> list[int]:
    mark = f"{RUN}={run_id}".encode()
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.append(int(name))
            except OSError:
                continue
    return found


def test_it_is_asked_to_end_before_it_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    polite = Service(
        "polite", _command(tmp_path, "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"), str(log)
    )
    until(lambda: "up" in _said(log))
    assert polite.ended() is None
    polite.stop(30)
    assert _said(log).endswith("bye\n")
    assert not _processes("polite")


def test_what_does_not_end_when_it_is_asked_is_ended(tmp_path: Path) -> None:
    log = tmp_path / "log"
    stubborn = Service(
        "stubborn",
        _command(tmp_path, "trap '' TERM; (setsid sleep 999 &); echo up; while :; do sleep 0.05; done"),
        str(log),
    )
    until(lambda: "up" in _said(log))
    stubborn.stop(0.2)
    assert stubborn.ended() is not None
    assert not _processes("stubborn")


def test_how_it_ended_by_itself_is_told(tmp_path: Path) -> None:
    ended = Service("ended", _command(tmp_path, "exit 3"), str(tmp_path / "log"))
    assert ended.ended(60) == "it ended with exit code 3"
    missing = Service("missing", Command(["/not/there"], str(tmp_path), 0, {}), str(tmp_path / "other"))
    assert missing.ended(60) == "it ended with exit code 127"
    assert missing.stop() == "it ended with exit code 127"


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    loop = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    program = f"""
import time
from provisioner.runs.process import Command, shell
from provisioner.runs.service import Service
Service("orphan", Command(shell({loop!r}), {str(tmp_path)!r}, 0, {{}}), {str(tmp_path / "log")!r})
time.sleep(999)
"""
    starter = subprocess.Popen([sys.executable, "-c", program])
    until(lambda: "up" in _said(tmp_path / "log"))
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    until(lambda: not _processes("orphan"))


def test_nothing_is_left_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    service = Service("bereft", _command(tmp_path, "(setsid sleep 999 &); echo up; sleep 999"), str(log))
    until(lambda: "up" in _said(log))
    os.kill(service.pid, signal.SIGKILL)
    assert service.ended(60) == "what supervises it was killed"
    assert not _processes("bereft")


def test_what_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    hog = "import time\ntaken = bytearray(200_000_000)\ntime.sleep(999)"
    command = Command([sys.executable, "-c", hog], str(tmp_path), 0, {}, memory=100_000_000)
    assert (
        Service("hog", command, str(tmp_path / "log")).ended(60)
        == "it used more than 100 MB of memory, so it was ended"
    )


def test_what_has_too_many_processes_is_ended_with_all_of_them(tmp_path: Path) -> None:
    crowd = "for each in 1 2 3 4 5 6 7 8 9; do setsid sleep 999 & done; wait"
    command = Command(shell(crowd), str(tmp_path), 0, {}, processes=8)
    said = Service("crowd", command, str(tmp_path / "log")).ended(60)
    assert said == "it had more than 8 processes at a time, so it was ended"
    assert not _processes("crowd")


def test_the_log_has_no_end_and_a_limit(tmp_path: Path) -> None:
    text = "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 12000000; echo done; sleep 999"
    log = tmp_path / "log"
    service = Service("chatty", _command(tmp_path, text), str(log))
    until(lambda: _said(log).endswith("done\n"))
    service.stop()
    assert log.stat().st_size <= 5_000_000
    assert (tmp_path / "log.1").stat().st_size <= 5_000_000
    assert {path.name for path in tmp_path.glob("log*")} == {"log", "log.times", "log.1", "log.1.times"}


def test_a_spare_supervisor_is_taken_and_belongs_to_the_run(tmp_path: Path) -> None:
    spare = SpareSupervisors(1)
    spare.prepare()
    until(lambda: len(_supervisors()) == 1)
    (waiting,) = _supervisors()
    log = tmp_path / "log"
    run_id = str(uuid.uuid4())
    service = Service(run_id, _command(tmp_path, "echo up; sleep 999"), str(log), spare)
    assert service.pid == waiting
    until(lambda: "up" in _said(log))
    assert waiting in _processes(run_id)
    assert waiting in marked(run_id)
    assert spare.take() is None
    service.stop()
    assert not _processes(run_id)
    spare.prepare()
    until(lambda: len(_supervisors()) == 1)
    (killed,) = _supervisors()
    os.kill(killed, signal.SIGKILL)
    os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
    assert Service("other", _command(tmp_path, "exit 3"), str(log), spare).ended(60) == "it ended with exit code 3"
    spare.prepare()
    until(lambda: len(_supervisors()) == 1)
    spare.close()
    assert not _supervisors()
    spare.prepare()
    assert not _supervisors()


def _supervisors() -> list[int]:
    """The children of this process that supervise, without those that only wait to be reaped."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return [int(pid) for pid in children if b"supervisor.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
