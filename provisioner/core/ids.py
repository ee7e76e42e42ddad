"""Identifiers, a type for each thing that has one: mypy finds where one is taken for another.

At run time each is `str`: `provisioner exec` starts without importing `typing`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NewType

    InstanceId = NewType("InstanceId", str)
    AppId = NewType("AppId", str)
    TimelineId = NewType("TimelineId", str)
    DatabaseId = NewType("DatabaseId", str)
    SnapshotId = NewType("SnapshotId", str)
    ShareId = NewType("ShareId", str)
    RunId = NewType("RunId", str)
    TokenId = NewType("TokenId", str)
else:
    InstanceId = AppId = TimelineId = DatabaseId = SnapshotId = ShareId = RunId = TokenId = str
