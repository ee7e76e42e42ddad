"""Output that appears when it is complete."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from provisioner.core.errors import ProvisionerError
from provisioner.kv.errors import KvError
from provisioner.system.atomic_file import sync_path


@contextmanager
def written(output: str | None) -> Iterator[IO[bytes]]:
    """Standard output, or a file that appears when the block ends without an error."""
    if output is None or output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    directory = os.path.dirname(os.path.abspath(output))
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".dump-", delete=False) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, output)
                sync_path(directory)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        if isinstance(error, KvError):
            raise
        raise ProvisionerError(f"{output} cannot be written: {error.strerror}") from error
