"""Access tokens."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from provisioner.core.ids import AppId, DatabaseId, TokenId


class Scope(StrEnum):
    """What an access token opens: one database, an app's development timelines, or everything."""

    DATABASE = "database"
    APP = "app"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """A long-lived access token, without its secret. ``app_id`` and ``database_id`` are set as ``scope`` says."""

    id: TokenId
    label: str
    scope: Scope
    app_id: AppId | None
    database_id: DatabaseId | None
    read_only: bool
    created_at: int
    expires_at: int | None
    revoked_at: int | None

    def valid(self, now: int) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)
