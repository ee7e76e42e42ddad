"""The limits of an instance on a PostgreSQL server for each of its databases, and their notation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from provisioner.core.durations import milliseconds
from provisioner.core.errors import UsageError
from provisioner.core.sizes import size

USUAL = "default"
"""In a list of trusted extensions: those that PostgreSQL lets a database's owner create."""

NONE = "none"

_LONGEST_NUMBER = 9  # digits
_LEAST_STATEMENT_MS = 1000


@dataclass(frozen=True, slots=True)
class Allowance:
    """Connections of a database at a time, bytes of temporary files of each, and milliseconds of one statement: None is the
    default, 0 no limit. ``trusted_extensions`` are those that a dump may bring along, separated by commas."""

    connections: int | None = None
    temp_bytes: int | None = None
    statement_ms: int | None = None
    trusted_extensions: str = USUAL

    @property
    def extensions(self) -> list[str]:
        return [name for name in self.trusted_extensions.split(",") if name]


USUAL_ALLOWANCE = Allowance()


@dataclass(frozen=True, slots=True)
class AllowanceChange:
    """The parts of an allowance that a person typed. None keeps a part."""

    connections: str | None = None
    temp: str | None = None
    statement: str | None = None
    trusted_extensions: str | None = None

    def of(self, allowance: Allowance) -> Allowance:
        """The allowance with these changes. Raises UsageError."""
        if self.connections is not None:
            allowance = replace(allowance, connections=_limit(self.connections, _number))
        if self.temp is not None:
            allowance = replace(allowance, temp_bytes=_limit(self.temp, _bytes))
        if self.statement is not None:
            allowance = replace(allowance, statement_ms=_limit(self.statement, _statement_ms))
        if self.trusted_extensions is not None:
            allowance = replace(allowance, trusted_extensions=_extensions(self.trusted_extensions))
        return allowance


NO_CHANGE = AllowanceChange()


def _limit(text: str, parse: Callable[[str], int]) -> int | None:
    if text == USUAL:
        return None
    return 0 if text == NONE else parse(text)


def _number(text: str) -> int:
    if not text.isdecimal() or not int(text[:_LONGEST_NUMBER]) > 0 or len(text) > _LONGEST_NUMBER:
        raise UsageError(f"{text!r} is not a number of connections", f"Use a value such as 20, {USUAL}, or {NONE}")
    return int(text)


def _bytes(text: str) -> int:
    found = size(text)
    if not found:
        raise UsageError(f"{text!r} is not a limit", f"Use a value such as 500MB, 10GB, {USUAL}, or {NONE}")
    return found


def _statement_ms(text: str) -> int:
    found = milliseconds(text)
    if found < _LEAST_STATEMENT_MS:
        raise UsageError(
            f"{text!r} is too short for a statement", f"Use a value such as 30s, 10min, {USUAL}, or {NONE}"
        )
    return found


def _extensions(text: str) -> str:
    names = [name.strip() for name in text.split(",")]
    if names == [NONE]:
        return ""
    wrong = [name for name in names if name == NONE or not name.replace("-", "").replace("_", "").isalnum()]
    if wrong:
        raise UsageError(
            f"{wrong[0]!r} is not the name of an extension",
            f"Use names separated by commas, {USUAL} for those that PostgreSQL itself trusts, or {NONE} alone",
        )
    return ",".join(dict.fromkeys(names))
