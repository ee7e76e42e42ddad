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
    """Standard output, or a file that appears when the block ends without an error. A symbolic link is followed; a pipe
    or a device, such as /dev/null, is written to and stays."""
    if output is None or output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = os.path.realpath(output)
    directory = os.path.dirname(target)
    try:
        if os.path.exists(output) and not os.path.isfile(output):
            with open(output, "wb") as special:
                yield special
            return
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".dump-", delete=False) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, target)
                sync_path(directory)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        if isinstance(error, KvError):
            raise
        raise ProvisionerError(f"{output} cannot be written: {error.strerror}") from error
