"""Standard input as an answer: a value, a secret, a URL, a dump. Empty input is an error, never an answer."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import click

from provisioner.core.errors import UsageError

_PIECE = 1 << 16
_LOOKED_AT = 1 << 20  # bytes: if these are white space, the reader may report what is wrong


def can_ask() -> bool:
    """Whether a person at a terminal can answer."""
    return sys.stdin is not None and sys.stdin.isatty()


def secret(what: str, instead: str) -> str:
    """One line, which stays out of the shell's history: typed at a terminal without being shown, else from standard input.

    Raises UsageError if there is none; `instead` is what to do then.
    """
    if can_ask():
        return str(click.prompt(what, hide_input=True))
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


def _stream() -> BinaryIO:
    """Standard input, or an empty one if the caller has closed it."""
    return io.BytesIO() if sys.stdin is None else sys.stdin.buffer


def _empty(what: str, instead: str, name: str = "standard input") -> UsageError:
    return UsageError(f"{name} is empty, and {what} is not. Nothing was changed", instead)


def size() -> int | None:
    """The bytes of standard input, if it is a file."""
    try:
        return os.fstat(_stream().fileno()).st_size or None
    except (OSError, io.UnsupportedOperation):
        return None
