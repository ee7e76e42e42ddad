"""Standard output and error, even if the caller has closed them."""

from __future__ import annotations

import io
import os
import sys

from provisioner.core.errors import ProvisionerError


class OutputFailed(ProvisionerError):  # noqa: N818
    """Standard output could not be written."""


class ReaderGone(Exception):  # noqa: N818
    """The reader of standard output has closed it, which is not a failure."""


class _Output(io.FileIO):
    def write(self, data: object, /) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError as error:
            raise ReaderGone from error  # click would turn the error itself into exit code 1
        except OSError as error:
            raise OutputFailed(f"standard output cannot be written: {error.strerror}") from error


def guard() -> None:
    """Make a failed write an error, and keep files that are opened later from taking the number of a closed stream."""
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # for 1: writing fails, as if it were still closed
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


def write(data: bytes) -> None:
    """Write all of it at once. Raises `OutputFailed`, or `ReaderGone`."""
    output = _Output(1, "w", closefd=False)
    while data:
        data = data[output.write(data) :]


def give_up() -> None:
    """Discard the output that is not written yet."""
    os.close(1)
    os.open(os.devnull, os.O_WRONLY)  # gets the lowest free number, 1, and needs no other one: there may be none
