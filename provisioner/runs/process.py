"""Running a user's command to its end, with a time limit and a log, and without leaving processes behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from provisioner.core.connection import strays
from provisioner.core.errors import StorageFailed
from provisioner.core.redaction import CREDENTIAL_NAMES, Secret, secrets_in
from provisioner.runs.order import Order
from provisioner.runs.run_mark import RUN, marked
from provisioner.runs.sandbox import Sandbox
from provisioner.runs.supervisors import SpareSupervisors, supervisor_of
from provisioner.system import failpoints
from provisioner.system.home import DIRECTORY_MODE, FILE_MODE, Home, inherited, inherited_by_strangers

STOPPED = "it was stopped"
LAST_WORDS = 300  # characters of a log that go into an error
_TAIL = 65_536  # bytes that are read for them
_LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0
KEEP_FREE = 64 << 20  # bytes on the home's disk, which all branches need

Stop = Callable[[], bool]
"""Called several times a second; once it returns True, the command is ended."""


@dataclass(frozen=True, slots=True)
class Confined:
    """What a command may reach: ``sandbox`` as the kernel enforces it, and the account ``user``, if it is another.

    Then ``home`` is its own, empty home directory, with one for temporary files in it. With neither, it may do whatever the
    user that runs provisioner may, and ``warning`` says so in its log.
    """

    sandbox: Sandbox | None = None
    user: str = ""
    home: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, its directory, its time limit, and its variables.

    ``secrets`` are masked in its output. ``limit_ms`` 0 means no limit. ``memory`` in bytes and ``processes`` are the most at a
    time; 0 is any number. ``given`` is its standard input.
    """

    words: Sequence[str]
    directory: str
    limit_ms: int
    variables: Mapping[str, str]
    secrets: Sequence[Secret] = ()
    confined: Confined = Confined()
    memory: int = 0
    given: str = ""
    processes: int = 0


def shell(text: str) -> list[str]:
    return ["/bin/sh", "-c", text]


def log_path(home: Home, run_id: str) -> str:
    return os.path.join(home.runs, f"{run_id}.log")


def run(
    home: Home, run_id: str, command: Command, stop: Stop, path: str = "", spare: SpareSupervisors | None = None
) -> str:
    """Run it to its end, with one of the `spare` supervisors if there is one. Its log is at `path`, or at `log_path`.

    Returns the failure, empty if there is none.

    Raises StorageFailed.
    """
    log = path or log_path(home, run_id)
    order = order_of(run_id, command, log)
    begin_log(command, log)
    with (spare and spare.take()) or supervisor_of(run_id) as supervisor:
        return _wait(supervisor, run_id, order, stop)


def begin_log(command: Command, log: str) -> None:
    """Make the log of a command, with the warning that it runs with. Raises StorageFailed."""
    try:
        os.makedirs(os.path.dirname(log), mode=DIRECTORY_MODE, exist_ok=True)
        with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, FILE_MODE), "ab") as file:
            if command.confined.warning:
                file.write(f"[provisioner: {command.confined.warning}]\n".encode())
    except OSError as error:
        where = os.path.dirname(log)
        raise StorageFailed(f"cannot log in {where}: {error.strerror}", "Make room, or make it writable") from error


def order_of(run_id: str, command: Command, log: str, *, rotated: bool = False) -> Order:
    """The order of a command's supervisor. `rotated`: the log has no end."""
    mine = command.confined
    kept = inherited_by_strangers(mine.home) if mine.home else inherited()
    stray = strays(dict(command.variables))
    kept = {key: value for key, value in kept.items() if key not in stray}
    leaked = [Secret(value, name) for name, value in kept.items() if CREDENTIAL_NAMES.search(name)]
    environment = {**kept, "NO_COLOR": "1", **command.variables, RUN: run_id}  # Deno colors also what goes into a file
    return Order(
        words=tuple(command.words),
        directory=command.directory,
        limit_ms=command.limit_ms,
        environment=environment,
        secrets=(*command.secrets, *secrets_in(environment), *leaked),
        sandbox=mine.sandbox,
        user=mine.user,
        keep_free=KEEP_FREE,
        log=log,
        memory=command.memory,
        processes=command.processes,
        rotated=rotated,
        given=command.given,
    )


def _wait(supervisor: subprocess.Popen[bytes], run_id: str, order: Order, stop: Stop) -> str:
    assert supervisor.stdin is not None  # noqa: S101
    assert supervisor.stdout is not None  # noqa: S101
    try:
        with suppress(BrokenPipeError):  # it was killed, which the end of its output shows
            supervisor.stdin.write(order.line())
            supervisor.stdin.flush()
        failpoints.point("run.started")
        stopping = False
        while not select.select([supervisor.stdout], [], [], _LOOK_SECONDS)[0]:
            if not stopping and stop():
                stopping = True
                supervisor.stdin.close()
        said = supervisor.stdout.read().decode("utf-8", "replace").strip()
    except BaseException:
        with suppress(BrokenPipeError):
            supervisor.stdin.close()  # which ends it, and all of the command's
        supervisor.wait()
        raise
    if not said:
        end_survivors(run_id)
        return "its supervisor was killed"
    return what_went_wrong(said, order)


def what_went_wrong(said: str, order: Order) -> str:
    """What the supervisor's last line means; empty if nothing went wrong."""
    kind, _, rest = said.partition(" ")
    match kind:
        case "exit":
            return "" if rest == "0" else f"it ended with exit code {rest}"
        case "signal":
            return f"it was killed by signal {rest}"
        case "refused":
            return rest
        case "space":
            return f"the disk of {order.directory} was nearly full, so it was ended"
        case "processes":
            return f"it had more than {order.processes} processes at a time, so it was ended"
        case "memory":
            return f"it used more than {order.memory / 1e6:.0f} MB of memory, so it was ended"
        case "stopped":
            return STOPPED
        case _:
            return f"it took longer than {order.limit_ms / 1000:g} s"


def end_survivors(run_id: str) -> None:
    """End the processes of a run whose supervisor was killed, if the system shows them."""
    patience = time.monotonic() + _PATIENCE_SECONDS
    while (left := marked(run_id)) and time.monotonic() < patience:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.01)


def last_words(path: str) -> str:
    """The end of a log, on one line; empty if it holds nothing."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - _TAIL))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[-LAST_WORDS:]


def failed(home: Home, run_id: str, what: str, why: str) -> str:
    """The sentence about a failed run: what, why, its last words, and the path of its output."""
    path = log_path(home, run_id)
    said = last_words(path)
    return f"{what} failed: {why}{f' ({said})' if said else ''}; its output is in {path}"
