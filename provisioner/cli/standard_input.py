"""Standard input as an answer: yes or no, a value, a secret, a URL, a dump. Empty input is an error, never an answer.

Ctrl-C ends each wait whenever it comes; see `provisioner.system.signals`.
"""

from __future__ import annotations

import io
import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, BinaryIO

import click

from provisioner.core.errors import UsageError
from provisioner.core.naming import shown
from provisioner.system.signals import interruptible

_PIECE = 1 << 16
_LOOKED_AT = 1 << 20  # bytes: if these are white space, the reader may report what is wrong


def can_ask() -> bool:
    """Whether a person at a terminal can answer."""
    return sys.stdin is not None and sys.stdin.isatty()


def confirmed(question: str) -> bool:
    """Whether the answer is yes; no is the default. Raises Abort if there is none."""
    while True:
        reply = _line(f"{question} [y/N]: ").strip().lower()
        if reply in ("y", "yes"):
            return True
        if reply in ("", "n", "no"):
            return False
        click.echo("Answer y or n", err=True)


def answer(question: str, *, hidden: bool = False) -> str:
    """What is typed, which is not empty; if `hidden`, the terminal does not show it. Raises Abort if there is no answer."""
    while not (reply := _line(f"{question}: ", hidden=hidden)):
        pass
    return reply


def _line(prompt: str, *, hidden: bool = False) -> str:
    terminal = sys.stdin.fileno()
    reply = b""
    with interruptible() as interrupt:
        with _without_echo(terminal) if hidden else nullcontext():
            click.echo(shown(prompt), err=True, nl=False)
            while not reply.endswith(b"\n") and not interrupt.wait(terminal):
                piece = os.read(terminal, _PIECE)  # a terminal gives one line at a time
                if not piece:
                    break
                reply += piece
        if hidden or not reply.endswith(b"\n"):
            click.echo(err=True)  # what follows begins a line
    if not reply:
        raise click.Abort
    return reply.decode("utf-8", "surrogateescape").removesuffix("\n")


@contextmanager
def _without_echo(terminal: int) -> Iterator[None]:
    before = termios.tcgetattr(terminal)
    hidden = [*before]
    hidden[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def secret(what: str, instead: str) -> str:
    """One line, which stays out of the shell's history: typed at a terminal without being shown, else from standard input.

    Raises UsageError if there is none; `instead` is what to do then.
    """
    if can_ask():
        return answer(what, hidden=True)
    text = value(what, instead).removesuffix("\n").removesuffix("\r")
    if "\n" in text:
        raise UsageError(f"standard input has several lines, and {what} is one", instead)
    return text


def value(what: str, instead: str) -> str:
    """All of standard input. Raises UsageError if there is nothing but white space in it."""
    text = _stream().read().decode("utf-8", "surrogateescape")
    if not text.strip():
        raise _empty(what, instead)
    return text


@contextmanager
def stream(what: str, instead: str) -> Iterator[BinaryIO]:
    """Standard input as a stream. Raises UsageError if there is nothing but white space in it."""
    with filled(_stream(), "standard input", what, instead) as found:
        yield found


@contextmanager
def filled(source: BinaryIO, name: str, what: str, instead: str) -> Iterator[BinaryIO]:
    """All of the source called `name`. Raises UsageError if there is nothing but white space in it."""
    begin = b""
    while not begin.strip() and len(begin) < _LOOKED_AT:
        piece = source.read1(_PIECE)  # type: ignore[attr-defined]
        if not piece:
            raise _empty(what, instead, name)
        begin += piece
    with io.BufferedReader(_Begun(begin, source), _PIECE) as found:
        yield found


class _Begun(io.RawIOBase):
    """A stream whose beginning has been read already."""

    def __init__(self, begin: bytes, rest: BinaryIO) -> None:
        self._begin, self._rest = memoryview(begin), rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        piece = self._begin[: len(buffer)] or self._rest.read1(len(buffer))  # type: ignore[attr-defined]
        self._begin = self._begin[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


class _Interruptible(io.RawIOBase):
    """A descriptor, of which a read ends with Ctrl-C."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with interruptible() as interrupt:
            return 0 if interrupt.wait(self._descriptor) else os.readv(self._descriptor, [buffer])


def _stream() -> BinaryIO:
    """Standard input, or an empty one if the caller has closed it."""
    return io.BytesIO() if sys.stdin is None else io.BufferedReader(_Interruptible(sys.stdin.fileno()), _PIECE)


def _empty(what: str, instead: str, name: str = "standard input") -> UsageError:
    return UsageError(f"{name} is empty, and {what} is not. Nothing was changed", instead)


def size() -> int | None:
    """The bytes of standard input, if it is a file."""
    try:
        return None if sys.stdin is None else os.fstat(sys.stdin.fileno()).st_size or None
    except OSError:
        return None
