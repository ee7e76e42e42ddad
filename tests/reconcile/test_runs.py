"""Commands of the user's: how each ends, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import until

from provisioner.runs.log_times import times_path
from provisioner.runs.output import MOST_LOG_BYTES
from provisioner.runs.process import STOPPED, Command, log_path, run, shell
from provisioner.system.home import Home

# forks twice and begins a session of its own, with none of the descriptors that it got
DAEMON = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.closerange(0, 100)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(fd, b'%d' % os.getpid())
while True: time.sleep(60)
"""


@pytest.fixture
def place(tmp_path: Path) -> Home:
    return Home(str(tmp_path / "home"))


def ran(place: Home, text: str, *, limit: float = 60.0, run_id: str = "one", stop: object = None) -> tuple[str, bytes]:
    """What went wrong, and what was logged."""
    command = Command(shell(text), os.path.dirname(place.path), int(limit * 1000), {"ANSWER": "42"})
    why = run(place, run_id, command, (lambda: False) if stop is None else stop)  # type: ignore[arg-type]
    return why, Path(log_path(place, run_id)).read_bytes()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("text", "why", "log"),
    [
        ("echo $ANSWER; echo oh >&2", "", b"42\noh\n"),
        ("echo half; exit 3", "it ended with exit code 3", b"half\n"),
        ("kill -SEGV $$", "it was killed by signal 11", b""),
        ("exec >&- 2>&-; exit 4", "it ended with exit code 4", b""),
        ("no-such-program-anywhere 2>/dev/null", "it ended with exit code 127", b""),
        ("read line || echo no input", "", b"no input\n"),
    ],
)
def test_how_a_command_ended_is_told(place: Home, text: str, why: str, log: bytes) -> None:
    assert ran(place, text) == (why, log)


def test_a_command_has_the_environment_it_is_given_and_not_what_git_told_a_hook(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("DENO_KV_PATH_PREFIX", "/nowhere")
    _, log = ran(place, "env; ls -l /proc/self/fd")
    assert b"ANSWER=42" in log
    assert b"PROVISIONER_RUN=one" in log
    assert b"NO_COLOR=1" in log  # a log is no terminal
    assert b"nowhere" not in log
    assert log.count(b" -> ") == 4  # the three, and that of ls itself


def test_a_log_is_private_and_ends_at_its_limit_while_the_command_goes_on(place: Home) -> None:
    why, log = ran(place, f"head -c {MOST_LOG_BYTES + 5_000_000} /dev/zero; echo done >{place.path}/done")
    assert (why, Path(place.path, "done").read_text()) == ("", "done\n")
    times = Path(times_path(log_path(place, "one"))).stat().st_size
    assert MOST_LOG_BYTES < len(log) + times < MOST_LOG_BYTES + 200
    assert b"the log is full" in log
    assert Path(log_path(place, "one")).stat().st_mode & 0o777 == 0o600


def test_a_daemon_that_the_command_leaves_behind_ends_with_it(place: Home, tmp_path: Path) -> None:
    (tmp_path / "daemon.py").write_text(DAEMON)
    text = (
        f"{sys.executable} {tmp_path}/daemon.py {tmp_path}/pid; while [ ! -s {tmp_path}/pid ]; do :; done; sleep 60 &"
    )
    assert ran(place, text)[0] == ""
    assert not alive(int((tmp_path / "pid").read_text()))


def overrun(place: Home, text: str, ready: Path) -> bytes:
    """Let the time of a command run out once it is ready, which takes longer on a busy machine: what it logged then."""
    limit = 2
    while True:
        why, log = ran(place, text, limit=limit, run_id=f"limit-{limit}")
        assert why == f"it took longer than {limit} s"
        if ready.exists() and ready.read_text():
            return log
        limit *= 2


def test_a_command_whose_time_is_over_ends_also_where_it_does_not_want_to(place: Home, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    overrun(place, f"trap '' TERM; echo $$ >{pid}; while :; do sleep 60; done", pid)
    assert not alive(int(pid.read_text()))


def test_a_command_that_is_asked_to_end_may_say_so(place: Home, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    log = overrun(place, f"trap 'echo bye; exit 0' TERM; echo yes >{ready}; while :; do sleep 0.01; done", ready)
    assert log.endswith(b"bye\n")


def test_a_command_can_be_stopped(place: Home, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    assert ran(place, f"echo $$ >{pid}; sleep 60", stop=lambda: pid.exists() and pid.read_text())[0] == STOPPED
    assert not alive(int(pid.read_text()))


STARTER = """
import sys
from provisioner.system.home import Home
from provisioner.runs.process import Command, run, shell
home, directory, text = sys.argv[1:]
run(Home(home), "one", Command(shell(text), directory, 60_000, {}), lambda: False)
"""


def test_a_command_does_not_outlive_who_started_it(place: Home, tmp_path: Path) -> None:
    (tmp_path / "daemon.py").write_text(DAEMON)
    text = f"{sys.executable} {tmp_path}/daemon.py {tmp_path}/pid; echo $$ >{tmp_path}/shell; sleep 60"
    with subprocess.Popen([sys.executable, "-c", STARTER, place.path, tmp_path, text]) as starter:
        until(lambda: all(path.exists() and path.read_text() for path in (tmp_path / "pid", tmp_path / "shell")))
        supervisor = int(Path(f"/proc/{(tmp_path / 'shell').read_text().strip()}/stat").read_text().split()[3])
        starter.send_signal(signal.SIGKILL)
    for name in ("pid", "shell"):
        until(lambda name=name: not alive(int((tmp_path / name).read_text())))  # type: ignore[misc]
    until(lambda: not alive(supervisor))
    assert Path(log_path(place, "one")).read_bytes() == b""


def test_a_command_does_not_outlive_its_supervisor(place: Home, tmp_path: Path) -> None:
    (tmp_path / "daemon.py").write_text(DAEMON)
    text = f"{sys.executable} {tmp_path}/daemon.py {tmp_path}/pid; while [ ! -s {tmp_path}/pid ]; do :; done"
    text = f"{text}; kill -9 $PPID; sleep 60"
    assert ran(place, text)[0] == "its supervisor was killed"
    assert not alive(int((tmp_path / "pid").read_text()))
