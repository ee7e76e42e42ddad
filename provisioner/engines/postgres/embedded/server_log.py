"""What an embedded server says in its log."""

from __future__ import annotations

import os

LAST_WORDS = 400


def size(directory: str) -> int:
    """How much it has said (bytes)."""
    path = os.path.join(directory, "log")
    return os.path.getsize(path) if os.path.exists(path) else 0


def said_since(directory: str, before: int) -> str:
    """What it has said since its log had this size."""
    with open(os.path.join(directory, "log"), errors="replace") as file:
        file.seek(before)
        return file.read()


def last_words(directory: str) -> str:
    """The end of its log, on one line."""
    try:
        with open(os.path.join(directory, "log"), errors="replace") as file:
            return " ".join(file.read()[-LAST_WORDS:].split())
    except OSError:
        return "it says nothing"
