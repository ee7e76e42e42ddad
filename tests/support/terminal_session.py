"""A program at a real terminal: what a person types, and what is on the screen then."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78cDEHM])")


class TerminalSession:
    """`text` is all that was printed until now, without what steers the terminal."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._raw = b""

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self._raw.decode("utf-8", "replace")).replace("\r\n", "\n").replace("\x07", "")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, pattern: str, seconds: float = 60) -> str:
        """What is printed from now on until it matches. The pattern must not be in what is typed."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text):
            assert time.monotonic() < deadline, (pattern, self.text)
            self._read(0.2)
        found = self.text
        self._raw = b""
        return found

    def to_the_end(self) -> str:
        while self._read(60):
            pass
        return self.text

    def _read(self, seconds: float) -> bool:
        """Whether there may be more."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        try:
            piece = os.read(self._master, 1 << 16)
        except OSError:  # the program has ended
            return False
        self._raw += piece
        return bool(piece)


def _take_terminal() -> None:
    """Ctrl-C reaches programs in a session that has the terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(
    cwd: Path, *command: str, columns: int = 80, add: Mapping[str, str] | None = None
) -> Iterator[TerminalSession]:
    """A command in a terminal with this many columns; it is ended with the block."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {**os.environ, "TERM": "xterm", **(add or {})}
    environ.pop("COLUMNS", None)
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(slave)
    try:
        yield TerminalSession(master)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)


def shown_at(cwd: Path, *command: str, columns: int = 80, typed: str = "") -> str:
    """What a command shows at a terminal of this width until it ends, with `typed` as its input."""
    with terminal(cwd, *command, columns=columns) as session:
        if typed:
            session.type(typed)
        return session.to_the_end()
