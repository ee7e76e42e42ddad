"""The owner of a stored database, recorded beside the data: enough to find it again without the registry.

The text is JSON; names that are not UTF-8 are in it as `os.fsdecode` has them, with surrogates that JSON escapes.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from provisioner.core.ids import AppId, DatabaseId, InstanceId
from provisioner.core.naming import timeline_name

FORMAT: Final = 1
KEY_DIGITS: Final = 32
_GREATEST: Final = 2**53  # of the numbers in it: a program that can write its database's directory can write any
FORGED: Final = 2**52
"""A generation that no registry counts up to: a program wrote it, or it follows one. It is read as this and no greater."""
_UNREADABLE: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class InstanceMark:
    """The instance, and its home, that stores in a location."""

    home_id: str
    id: InstanceId
    slug: str
    engine: str

    def text(self) -> str:
        return _dumped({"format": FORMAT, "home": self.home_id, "instance": _instance(self)})

    @classmethod
    def parse(cls, text: str) -> InstanceMark | None:
        """None for text that is not a mark."""
        try:
            read = json.loads(text)
            instance = read["instance"]
            return cls(
                str(read["home"]), InstanceId(str(instance["id"])), str(instance["name"]), str(instance["engine"])
            )
        except _UNREADABLE:
            return None


@dataclass(frozen=True, slots=True)
class Owner:
    """The database `database_id` is that of this timeline of this app, on this instance of this home.

    `branch` is raw as git has it; of a preview it is the commit's id. `created_at` in milliseconds since 1970. `lineage` tells
    the branch from others of its name (see `provisioner.git.lineage`); None in records of older versions. `generation` is that
    of the credentials. `orphaned`: the timeline has the database, and its branch must not get it.
    """

    instance: InstanceMark
    app_id: AppId
    app: str
    repository: bytes
    branch: bytes
    production: bool
    preview: bool
    database_id: DatabaseId
    name: str
    created_at: int
    lineage: str | None = None
    generation: int = 0
    orphaned: bool = False

    @property
    def timeline(self) -> bytes:
        return timeline_name(self.branch, production=self.production, preview=self.preview)

    @property
    def key(self) -> str:
        return timeline_key(self.app_id, self.timeline)

    def text(self) -> str:
        return _dumped(
            {
                "format": FORMAT,
                "home": self.instance.home_id,
                "instance": _instance(self.instance),
                "app": {"id": self.app_id, "name": self.app, "repository": os.fsdecode(self.repository)},
                "timeline": {
                    "name": os.fsdecode(self.timeline),
                    "branch": os.fsdecode(self.branch),
                    "production": self.production,
                    "preview": self.preview,
                    "lineage": self.lineage,
                },
                "database": {
                    "id": self.database_id,
                    "name": self.name,
                    "created_at": self.created_at,
                    "generation": self.generation,
                    "orphaned": self.orphaned,
                },
            }
        )

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """None for text that is not an owner record, as a power cut may leave it."""
        mark = InstanceMark.parse(text)
        if mark is None:
            return None
        try:
            read = json.loads(text)
            app, timeline, database = read["app"], read["timeline"], read["database"]
            lineage = timeline.get("lineage")
            return cls(
                mark,
                AppId(str(app["id"])),
                str(app["name"]),
                os.fsencode(app["repository"]),
                os.fsencode(timeline["branch"]),
                bool(timeline["production"]),
                bool(timeline["preview"]),
                DatabaseId(str(database["id"])),
                str(database["name"]),
                _number(database["created_at"]),
                None if lineage is None else str(lineage),
                min(_number(database.get("generation", 0)), FORGED),
                bool(database.get("orphaned", False)),
            )
        except _UNREADABLE:
            return None


def _number(value: object) -> int:
    """Raises ValueError for one that no registry holds."""
    if not isinstance(value, int) or not 0 <= value < _GREATEST:
        raise ValueError(value)
    return value


def timeline_key(app_id: AppId, timeline: bytes) -> str:
    """The key by which the stored databases of a timeline are looked up."""
    return sha256(app_id.encode() + b"\0" + timeline).hexdigest()[:KEY_DIGITS]


def _instance(mark: InstanceMark) -> dict[str, str]:
    return {"id": mark.id, "name": mark.slug, "engine": mark.engine}


def _dumped(document: dict[str, object]) -> str:
    return json.dumps(document, indent=1) + "\n"
