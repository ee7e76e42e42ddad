"""The file in an instance's directory that says which instance stores there, so that it is found again without the registry."""

from __future__ import annotations

import os

from provisioner.core.owner import InstanceMark
from provisioner.system.atomic_file import replace_file
from provisioner.system.home import FILE_MODE

FILE_NAME = "instance.json"


def write(directory: str, mark: InstanceMark) -> None:
    """Raises OSError."""
    if read(directory) != mark:
        replace_file(os.path.join(directory, FILE_NAME), mark.text().encode(), FILE_MODE)


def read(directory: str) -> InstanceMark | None:
    try:
        with open(os.path.join(directory, FILE_NAME), encoding="utf-8", errors="replace") as file:
            return InstanceMark.parse(file.read())
    except OSError:
        return None
