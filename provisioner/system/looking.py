"""What the code that runs now may change: for commands that promise to change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum


class _May(IntEnum):
    CHANGE_NOTHING = 0
    START_NOTHING = 1
    CHANGE = 2


_allowed = ContextVar("allowed", default=_May.CHANGE)


@contextmanager
def only_looking() -> Iterator[None]:
    """In the block nothing is changed: registries open for reading, no branch is provisioned, and no server is started."""
    with _at_most(_May.CHANGE_NOTHING):
        yield


@contextmanager
def starting_nothing() -> Iterator[None]:
    """In the block no server is started."""
    with _at_most(_May.START_NOTHING):
        yield


@contextmanager
def _at_most(most: _May) -> Iterator[None]:
    token = _allowed.set(min(most, _allowed.get()))
    try:
        yield
    finally:
        _allowed.reset(token)


def may_change() -> bool:
    return _allowed.get() is not _May.CHANGE_NOTHING


def may_start() -> bool:
    return _allowed.get() is _May.CHANGE
