"""The parent of a command that somebody else wrote: when that ends, everything that it has started ends too.

Run as a file, ``python -I -S supervise.py LIMIT LOG -- ARG…``, with nothing of ours imported. Its standard input is a pipe
that its starter holds open: when that ends, the starter has died or wants the command to end. It prints one line, how
the command ended: ``exit N``, ``signal N``, ``time`` (its time was over) or ``stopped``.

On Linux it adopts what the command leaves behind (``PR_SET_CHILD_SUBREAPER``), also a daemon that forked twice and began
a session of its own; elsewhere it reaches the command's process group only.
"""

import ctypes
import os
import selectors
import signal
import sys
import time

MOST_LOG_BYTES = 10_000_000
MOST_DESCRIPTORS = 65536
GRACE_SECONDS = 2.0  # between asking a command whose time is over to end, and ending it
PATIENCE_SECONDS = 10.0  # with what cannot be ended: another user's, or one that hangs in the kernel
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main(limit: float, log: int, command: list[str]) -> str:
    """Run the command for at most `limit` seconds, with its output in the descriptor `log`; how it ended."""
    linux = sys.platform == "linux"
    libc = ctypes.CDLL(None) if linux else None
    if libc:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for our starter, whose end we hear of
    output, written = os.pipe()
    child = os.fork()
    if child == 0:
        _become(command, written, libc)
    os.close(written)
    os.set_blocking(output, False)
    return _Watch(child, limit, Log(log), output, told).until_it_ends()


def _become(command: list[str], written: int, libc: ctypes.CDLL | None) -> None:
    try:
        os.setsid()
        if libc:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (written, 1), (written, 2)):
            os.dup2(source, target)
        os.closerange(3, MOST_DESCRIPTORS)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


class Log:
    """What the command prints, up to a limit, which is said."""

    def __init__(self, fd: int) -> None:
        self._fd, self._left = fd, MOST_LOG_BYTES

    def write(self, data: bytes) -> None:
        if self._left <= 0:
            return
        kept = data[: self._left]
        self._left -= len(kept)
        self._put(kept)
        if self._left <= 0:
            self._put(f"\n[the log is full at {MOST_LOG_BYTES} bytes; the rest is not kept]\n".encode())

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except OSError:  # a full disk is no reason to end the command
                self._left = 0
                return


class _Watch:
    def __init__(self, child: int, limit: float, log: Log, output: int, told: int) -> None:
        self.child, self.log, self.output = child, log, output
        self.deadline = time.monotonic() + limit
        self.why = ""
        self.selector = selectors.DefaultSelector()
        for fd in (0, output, told):
            self.selector.register(fd, selectors.EVENT_READ)

    def until_it_ends(self) -> str:
        ended = ""
        while not ended:
            for key, _ in self.selector.select(max(0.0, self.deadline - time.monotonic())):
                if key.fd == self.output:
                    self._drain(65536)
                elif not os.read(key.fd, 4096):
                    self.selector.unregister(key.fd)
                    self._end("stopped", 0.0)
            if time.monotonic() >= self.deadline:
                self._end("time", GRACE_SECONDS)
            ended = self._ended()
        end_all(self.child)
        self._drain(1 << 24)
        return self.why or ended

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
        """How the command ended, if it has; others that ended meanwhile are buried too."""
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


def end_all(child: int) -> None:
    """End whatever is left of the command, and bury it."""
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
    """Every process that descends from this one; those that only wait to be buried are among them."""
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


if __name__ == "__main__":
    said = main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[4:])
    try:
        os.write(1, f"{said}\n".encode())
    except BrokenPipeError:  # its starter has died
        sys.exit(1)
