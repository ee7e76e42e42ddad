"""Small file systems of real kinds, on loop devices, to be filled."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support import IN_CI

SIZES = {"btrfs": 160, "ext4": 64, "xfs": 320}  # MiB: the least that they take, and a little


@contextmanager
def disk(kind: str, path: Path, *options: str, size: int = 0) -> Iterator[Path]:
    """A new file system of this kind and of `size` MiB, made with these options. Mounting is for root, which CI is."""
    program = shutil.which(f"mkfs.{kind}")
    if program is None or os.geteuid() != 0:
        if IN_CI:
            pytest.fail(f"CI has to have mkfs.{kind}, and root to mount")
        pytest.skip("mounting is for root")
    image, directory = path / "image", path / "disk"
    directory.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate((size or SIZES[kind]) << 20)
    subprocess.run([program, "-q", *options, image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(directory: Path, leave: int = 0) -> Path:
    """Write a file until nothing else fits, not even what is reserved for root, and cut off as many bytes."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512):
            with suppress(OSError):
                while True:
                    file.write(os.urandom(size))
        file.truncate(max(0, filler.stat().st_size - leave))
    os.sync()
    return filler
