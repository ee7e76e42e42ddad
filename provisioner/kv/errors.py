"""What can go wrong with a key-value database. Each class exists because a caller decides differently on it."""

from __future__ import annotations


class KvError(Exception):
    """Any refusal of a key-value database. Its text says what failed and what to do."""


class KeyInvalid(KvError, TypeError):
    """A key, a prefix or a range that cannot be one."""


class ValueInvalid(KvError, TypeError):
    """A value that has no JavaScript counterpart, or an operand that an operation does not take."""


class OptionInvalid(KvError, ValueError):
    """A limit, batch size, delay or schedule outside what the operation takes."""


class LimitExceeded(KvError, ValueError):
    """More keys, entries or bytes than one operation may have."""


class TypeMismatch(KvError, TypeError):
    """`sum`, `min` or `max` met a value of another kind. Nothing of the atomic operation was written."""


class OutOfRange(KvError, ValueError):
    """A `sum` would leave the bounds that it was given. Nothing of the atomic operation was written."""


class CursorInvalid(KvError, ValueError):
    """A cursor that does not come from this selector."""


class Malformed(KvError, ValueError):
    """Bytes in the database that are not a key or value. Other keys stay readable."""


class DumpInvalid(KvError, ValueError):
    """A line that is none of a dump, or does not fit where it is loaded. `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line


class Busy(KvError, TimeoutError):
    """Another process held the database for longer than the deadline for writes."""


class ReadOnly(KvError, PermissionError):
    """A write to a database that could only be opened for reading."""


class StoreFailed(KvError, OSError):
    """The storage refused: a full disk, a file that is not a database, an input or output error."""


class Unreachable(StoreFailed, ConnectionError):
    """The database's own server does not answer, or has no room: nothing was written, and it may pass."""


class AccessDenied(KvError, PermissionError):
    """The server does not open this database to this access token."""


class Uncertain(KvError, ConnectionError):
    """A server's answer to a write was lost: it happened, or it did not. Read before you write it again."""


class Unsupported(KvError, NotImplementedError):
    """The server at the other end does not do this."""


class Closed(KvError, ValueError):
    """The database was closed before the operation."""
