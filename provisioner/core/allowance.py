"""What an instance on a PostgreSQL server allows its databases, and how a person says that."""

from __future__ import annotations

from dataclasses import dataclass, replace

from provisioner.core.errors import UsageError

USUAL = "default"
"""In a list of trusted extensions: those that PostgreSQL lets the owner of a database make."""

NONE = "none"


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
    """What is said of an allowance, as it was typed. What is None stays as it is."""

    trusted_extensions: str | None = None

    def of(self, allowance: Allowance) -> Allowance:
        """The allowance with that. Raises UsageError."""
        if self.trusted_extensions is not None:
            allowance = replace(allowance, trusted_extensions=_extensions(self.trusted_extensions))
        return allowance


NO_CHANGE = AllowanceChange()


def _extensions(text: str) -> str:
    names = [name.strip() for name in text.split(",")]
    if names == [NONE]:
        return ""
    wrong = [name for name in names if name == NONE or not name.replace("-", "").replace("_", "").isalnum()]
    if wrong:
        raise UsageError(
            f"{wrong[0]!r} is not the name of an extension",
            f"Use names with commas between them, {USUAL} for those that PostgreSQL itself trusts, or {NONE} alone",
        )
    return ",".join(dict.fromkeys(names))
