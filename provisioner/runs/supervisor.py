"""The parent of a user's command: when the command ends, everything that it has started ends too.

Run as a file, ``python -I -S supervisor.py``. Its standard input is a pipe that its starter holds open: one line says
what to run (see `order`). A second line, ``end`` and a number of seconds, asks the command to end in that time; when the pipe
ends, the starter has died, or wants the command to end at once. It prints one line, how the command ended: ``exit N``,
``signal N``, ``time`` (its time was over), ``space`` (its disk was nearly full), ``memory`` (it took too much), ``processes``
(it had too many), ``stopped``, or ``refused`` with the reason why it could not be started as ordered.

On Linux it adopts what the command leaves behind (``PR_SET_CHILD_SUBREAPER``), including a daemon that forked twice and
started its own session; elsewhere it reaches only the command's process group.
"""

from __future__ import annotations

import ctypes
import math
import os
import selectors
import signal
import sys
import time

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from provisioner.core.redaction import RedactedStream, Redactor
from provisioner.runs import confinement, run_mark
from provisioner.runs.order import Order
from provisioner.runs.output import OutputLog, RotatedLog

MOST_DESCRIPTORS = 65536
GRACE_SECONDS = 2.0  # between asking a command whose time is over to end, and ending it
PATIENCE_SECONDS = 10.0  # with what cannot be ended: another user's, or one that hangs in the kernel
LOOK_SECONDS = 1.0  # between two looks how full the disk is, and how much memory and how many processes there are
_PR_SET_CHILD_SUBREAPER = 36


def main(order: Order, asked: bytes) -> str:
    """Run the command; how it ended. `asked` is what was said after the order."""
    try:
        log = os.open(order.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError as error:
        return f"refused cannot write to {order.log}: {error.strerror}"
    os.dup2(log, 2)
    if sys.platform == "linux":
        run_mark.put_on(order.environment.get(run_mark.RUN, ""))
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for our starter, whose end we hear of
    output, written = os.pipe()
    refusal, refused = os.pipe()  # closed by the kernel when the command has been started
    child = os.fork()
    if child == 0:
        _become(order, written, refused)
    os.close(written)
    os.close(refused)
    with open(refusal, "rb") as pipe:
        why = pipe.read().decode("utf-8", "replace")
    os.set_blocking(output, False)
    stream = RedactedStream(Redactor(order.secrets))
    kept = RotatedLog(order.log, stream) if order.rotated else OutputLog(log, order.log, stream)
    watch = _Watch(child, order, kept, output, told)
    watch.listen(asked)
    ended = watch.until_it_ends()
    return f"refused {why}" if why else ended


def _become(order: Order, written: int, refused: int) -> None:
    what = "cannot begin"
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        for source, target in ((_given(order), 0), (written, 1), (written, 2), (refused, 3)):
            os.dup2(source, target, inheritable=target != 3)
        os.closerange(4, MOST_DESCRIPTORS)
        if order.sandbox is not None:
            what = "cannot hide the home from the command"
            confinement.hide(order.sandbox)
        os.chdir(order.directory)  # after that: from where it was before, there would be a way to what is hidden
        if order.user:
            what = f"cannot run as {order.user}"
            confinement.become(order.user)
        if sys.platform == "linux":
            confinement.die_with_parent(signal.SIGKILL)
        if order.sandbox is not None:
            what = "cannot confine the command"
            confinement.enter(order.sandbox)
    except (OSError, KeyError) as error:
        why = error.strerror if isinstance(error, OSError) else "no such account"
        os.write(3, f"{what}: {why}".encode())
        os._exit(126)
    try:
        os.execvpe(order.words[0], order.words, order.environment)
    except OSError as error:
        os.write(2, f"cannot run {order.words[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _given(order: Order) -> int:
    """A descriptor of its standard input."""
    data = order.given.encode("utf-8", "surrogateescape")
    if not data:
        return os.open(os.devnull, os.O_RDONLY)
    if sys.platform == "linux":
        there = write = os.memfd_create("standard input")
    else:
        there, write = os.pipe()
        os.set_blocking(write, False)  # more than a pipe holds is a failure: nothing reads before the command starts
    while data:
        data = data[os.write(write, data) :]
    if there == write:
        os.lseek(there, 0, os.SEEK_SET)
    else:
        os.close(write)
    return there


class _Watch:
    def __init__(self, child: int, order: Order, log: OutputLog | RotatedLog, output: int, told: int) -> None:
        self.child, self.order, self.log, self.output = child, order, log, output
        self.deadline = time.monotonic() + order.limit_ms / 1000 if order.limit_ms else math.inf
        self.why = ""
        self.selector = selectors.DefaultSelector()
        for fd in (0, output, told):
            self.selector.register(fd, selectors.EVENT_READ)

    def listen(self, said: bytes) -> None:
        """Do what the starter asks for."""
        word, _, seconds = said.strip().partition(b" ")
        if word == b"end":
            self._end("stopped", float(seconds))

    def until_it_ends(self) -> str:
        ended = ""
        limited = self.order.keep_free or self.order.memory or self.order.processes
        look = time.monotonic()
        while not ended:
            wait = min(self.deadline - time.monotonic(), LOOK_SECONDS if limited else math.inf)
            for key, _ in self.selector.select(None if wait == math.inf else max(0.0, wait)):
                if key.fd == self.output:
                    self._drain(65536)
                elif said := os.read(key.fd, 4096):
                    if key.fd == 0:
                        self.listen(said)
                else:
                    self.selector.unregister(key.fd)
                    self._end("stopped", 0.0)
            now = time.monotonic()
            if now >= self.deadline:
                self._end("time", GRACE_SECONDS)
            elif limited and not self.why and now >= look:
                look = now + LOOK_SECONDS
                self._keep_to_limits()
            ended = self._ended()
        end_all(self.child)
        self._drain(1 << 24)
        self.log.close()
        return self.why or ended

    def _keep_to_limits(self) -> None:
        if self.order.keep_free and free_bytes(self.order.directory) < self.order.keep_free:
            self._end("space", 0.0)
        elif self.order.memory or self.order.processes:
            mine = descendants()
            if self.order.memory and resident_bytes(mine) > self.order.memory:
                self._end("memory", 0.0)
            elif self.order.processes and len(mine) > self.order.processes:
                self._end("processes", 0.0)

    def _end(self, why: str, grace: float) -> None:
        """Ask the command to end; asked again, it is ended."""
        number = signal.SIGKILL if self.why or not grace else signal.SIGTERM
        self.why = self.why or why
        self.deadline = time.monotonic() + (grace or GRACE_SECONDS)
        for pid in descendants() or [self.child]:
            _signal(pid, number)

    def _drain(self, most: int) -> None:
        while most > 0:
            try:
                data = os.read(self.output, 65536)
            except BlockingIOError:
                return
            if not data:
                if self.output in self.selector.get_map():
                    self.selector.unregister(self.output)
                return
            self.log.write(data)
            most -= len(data)

    def _ended(self) -> str:
        """How the command ended, if it has; others that ended in the meantime are reaped, too."""
        ended = ""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended or "stopped"
            if pid == 0:
                return ended
            if pid == self.child:
                code = os.waitstatus_to_exitcode(status)
                ended = f"exit {code}" if code >= 0 else f"signal {-code}"


def free_bytes(directory: str) -> int:
    """The space that this user may still fill there; unlimited if the system does not report it."""
    try:
        disk = os.statvfs(directory)
    except OSError:
        return sys.maxsize
    return disk.f_bavail * disk.f_frsize


def resident_bytes(pids: list[int]) -> int:
    """What these processes have in memory, without the files that they have mapped."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                fields = file.read().split()
        except OSError:
            continue
        total += (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    return total


def end_all(child: int) -> None:
    """End whatever is left of the command, and reap it."""
    if not os.path.exists("/proc/self/stat"):
        try:
            os.killpg(child, signal.SIGKILL)
        except OSError:
            return
        return
    patience = time.monotonic() + PATIENCE_SECONDS
    while (left := descendants()) and time.monotonic() < patience:
        for pid in left:
            _signal(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            continue
        time.sleep(0.001)


def descendants() -> list[int]:
    """Every process that descends from this one; those that only wait to be reaped are among them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.exists("/proc/self/stat") else ():
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b") ")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(name))
    found = []
    waiting = [os.getpid()]
    while waiting:
        mine = children.get(waiting.pop(), [])
        found += mine
        waiting += mine
    return found


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        return


def _ordered() -> bytes:
    """The line that says what to run, with whatever follows it; empty if the starter has died before."""
    data = bytearray()
    while b"\n" not in data:
        piece = os.read(0, 65536)
        if not piece:
            return b""
        data += piece
    return bytes(data)


if __name__ == "__main__":
    line, _, rest = _ordered().partition(b"\n")
    said = main(Order.parse(line), rest) if line else "stopped"
    try:
        os.write(1, f"{said}\n".encode())
    except BrokenPipeError:  # its starter has died
        sys.exit(1)
