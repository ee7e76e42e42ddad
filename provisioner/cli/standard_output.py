"""Standard output and error, whatever the caller has made of them."""

from __future__ import annotations

import io
import os
import sys

from provisioner.core.errors import ProvisionerError


class OutputFailed(ProvisionerError):  # noqa: N818
    """Standard output could not be written."""


class ReaderGone(Exception):  # noqa: N818
    """Whoever read standard output has closed it, which is no failure."""


class _Output(io.FileIO):
    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError as error:
            raise ReaderGone from error  # of the error itself click would make exit code 1
        except OSError as error:
            raise OutputFailed(f"standard output cannot be written: {error.strerror}") from error


def guard() -> None:
    """Make what cannot be written an error, and let no file that is opened later take the place of a closed stream."""
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # of 1: nothing can be written there, as if it were still closed
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    given = sys.stdout
    if given is not None:
        given.flush()
    writer = io.BufferedWriter(_Output(1, "w", closefd=False))
    sys.stdout = io.TextIOWrapper(
        writer,
        encoding=given.encoding if given is not None else "utf-8",
        errors="backslashreplace",
        line_buffering=os.isatty(1),
    )


def give_up() -> None:
    """Let nothing that is still to be written be written."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
