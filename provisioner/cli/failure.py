"""A failure as a line for people, or as one JSON document on standard error for a program that uses --json."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from provisioner.core.errors import NotConfirmed, NotResolved, ProvisionerError, UsageError
from provisioner.core.naming import shown

INTERRUPTED = 130


def wants_json() -> bool:
    """Whether --json is among the words, before those of a command to run."""
    words = sys.argv[1:]
    return "--json" in (words[: words.index("--")] if "--" in words else words)


def report(error: ProvisionerError, exit_code: int) -> None:
    """Print what failed and what to do."""
    if wants_json():
        _document(_code(error), error.message, error.hint, exit_code, error.candidates)
    else:
        line(str(error))


def report_usage(error: click.ClickException) -> None:
    if wants_json():
        _document("usage", error.format_message(), "", error.exit_code, getattr(error, "possibilities", None) or ())
    else:
        error.show()


def report_interrupt(text: str) -> None:
    if wants_json():
        _document("interrupted", text, "", INTERRUPTED)
    else:
        line(text)


def line(text: str) -> None:
    click.echo(f"provisioner: {shown(' '.join(text.splitlines()))}", err=True)


def _code(error: ProvisionerError) -> str:
    if isinstance(error, NotResolved):
        return error.code
    if isinstance(error, UsageError):
        return "usage"
    return "not-confirmed" if isinstance(error, NotConfirmed) else "failed"


def _document(code: str, message: str, hint: str, exit_code: int, candidates: Sequence[str] = ()) -> None:
    error: dict[str, object] = {
        "code": code,
        "message": message,
        "hint": hint or None,
        "exit_code": exit_code,
        "candidates": [shown(name) for name in candidates],
    }
    click.echo(json.dumps({"error": error}), err=True)
