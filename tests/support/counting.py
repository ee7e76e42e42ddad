"""What a command costs in things that can be counted, and are the same on every machine: no clock is asked."""

from __future__ import annotations

import gc
import io
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from provisioner.cli.main import cli
from provisioner.registry import fast_sqlite

_OPENED = ("open", "os.listdir", "os.scandir", "os.readlink")
_STAT = ("stat", "lstat", "access", "readlink")


@dataclass
class Counts:
    """`statements` sent to the registry and the `steps` that SQLite took for them (each row read is several), `files`
    opened, listed or looked at, and functions called, whether in Python or in C."""

    statements: int = 0
    steps: int = 0
    files: int = 0
    calls: int = 0

    def grown(self, base: Counts) -> Counts:
        """How much more it is than `base`."""
        return Counts(
            self.statements - base.statements, self.steps - base.steps, self.files - base.files, self.calls - base.calls
        )


_active: Counts | None = None
_thread = 0
"""The thread that counts: what another one opens meanwhile is not the command's."""

_hooked = False


def _audit(event: str, _: tuple[object, ...]) -> None:
    if _active is not None and event in _OPENED and threading.get_ident() == _thread:
        _active.files += 1


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what the block does in this thread, with registries that it opens itself."""
    global _active, _hooked, _thread
    if not _hooked:  # an audit hook stays for good
        sys.addaudithook(_audit)
        _hooked = True
    counts = Counts()
    with pytest.MonkeyPatch.context() as patch:
        for module in (sqlite3, fast_sqlite):
            patch.setattr(module, "connect", _counted_connect(module.connect, counts))
        for name in _STAT:
            patch.setattr(os, name, _counted(getattr(os, name), counts))
        _active, _thread = counts, threading.get_ident()
        gc.collect()
        gc.disable()  # what it finalizes, and when, is no cost of the command's
        sys.setprofile(lambda frame, event, _: _profile(counts, frame, event))
        try:
            yield counts
        finally:
            sys.setprofile(None)
            gc.enable()
            _active = None


def _profile(counts: Counts, frame: FrameType, event: str) -> None:
    if event in ("call", "c_call") and frame.f_code.co_filename != __file__:
        counts.calls += 1


def _counted_connect(connect: Callable[..., sqlite3.Connection], counts: Counts) -> Callable[..., sqlite3.Connection]:
    def counted(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.set_progress_handler(step, 1)
        connection.set_trace_callback(statement)
        return connection

    def step() -> int:
        counts.steps += 1
        return 0

    def statement(_: str) -> None:
        counts.statements += 1

    return counted


def _counted(function: Callable[..., Any], counts: Counts) -> Callable[..., Any]:
    def counted(*args: Any, **options: Any) -> Any:
        if threading.get_ident() == _thread:
            counts.files += 1
        return function(*args, **options)

    return counted


def command(cwd: Path, home: Path, *words: str) -> Counts:
    """What a command of provisioner's costs in this process, when everything that it imports is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setenv("PROVISIONER_HOME", str(home))
        with redirect_stdout(io.TextIOWrapper(io.BytesIO())), counting() as counts:
            cli.main(list(words), prog_name="provisioner", standalone_mode=False)
    return counts
