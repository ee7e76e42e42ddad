"""Access tokens in the registry. Only the SHA-256 of a token's secret is stored: 32 random bytes need no slower hash."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest

from provisioner.core.ids import AppId, DatabaseId, ShareId, TokenId
from provisioner.core.model import Database, Scope, Token
from provisioner.registry.schema.row_type import RowType, one_of
from provisioner.registry.tables.audit_log import AuditLog
from provisioner.registry.tables.connection import Tables, printable

PREFIX = "ptk_"

TOKEN = RowType(
    Token,
    "token",
    ("id", "label", "scope", "app_id", "database_id", "read_only", "created_at", "expires_at", "revoked_at"),
    parse={"scope": one_of(Scope), "read_only": bool},
)


def digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


_NO_DIGEST = digest("")


def split(text: str) -> tuple[TokenId, str]:
    """Id and secret of ``ptk_<id>_<secret>``; the secret is empty where `text` is not that."""
    name, _, secret = text.removeprefix(PREFIX).partition("_")
    return TokenId(name), secret


def create(
    registry: AuditLog,
    scope: Scope,
    now: int,
    *,
    app_id: AppId | None = None,
    database_id: DatabaseId | None = None,
    read_only: bool = False,
    expires_at: int | None = None,
    label: str = "",
) -> tuple[Token, str]:
    """A new token and its text, which cannot be shown again."""
    label = printable(label) or ""
    token = Token(TokenId(secrets.token_hex(8)), label, scope, app_id, database_id, read_only, now, expires_at, None)
    secret = secrets.token_urlsafe(32)
    with registry.change():
        registry.write(
            f"insert into token ({', '.join(TOKEN.names)}, hash) values ({', '.join('?' * len(TOKEN.names))}, ?)",
            *TOKEN.values(token),
            digest(secret),
        )
        registry.record(now, "token.create", registry.who, app_id=app_id, database_id=database_id, detail=token.id)
    return token, f"{PREFIX}{token.id}_{secret}"


def listing(registry: Tables) -> list[Token]:
    """Every token there ever was, the oldest first."""
    return [TOKEN.read(row) for row in registry.rows(f"select {TOKEN.select} from token order by created_at, id")]


def find(registry: Tables, token_id: TokenId) -> tuple[Token, bytes] | None:
    """A token with its secret's digest."""
    rows = registry.rows(f"select {TOKEN.select}, hash from token where id = ?", token_id)
    return next(((TOKEN.read(found), bytes(hashed)) for *found, hashed in rows), None)  # type: ignore[call-overload]


def known(registry: Tables, text: str) -> Token | None:
    """The token whose text this is, valid or not."""
    if not text.startswith(PREFIX) or not text.isascii():
        return None
    token_id, secret = split(text)
    token, hashed = find(registry, token_id) or (None, _NO_DIGEST)
    return token if compare_digest(digest(secret), hashed) else None


def revoke(registry: AuditLog, token: Token, now: int) -> None:
    with registry.change():
        registry.write("update token set revoked_at = ? where id = ? and revoked_at is null", now, token.id)
        registry.record(
            now, "token.revoke", registry.who, app_id=token.app_id, database_id=token.database_id, detail=token.id
        )


def raise_generation(registry: AuditLog, database_id: DatabaseId, now: int) -> None:
    """Revoke the credentials that `exec` and `env` have injected for a database; they inject new ones from now on."""
    with registry.change():
        registry.write("update database set token_generation = token_generation + 1 where id = ?", database_id)
        registry.record(now, "token.revoke-injected", registry.who, database_id=database_id)


def ownership(registry: Tables, database_id: DatabaseId) -> tuple[AppId, bool, int] | None:
    """Facts of an existing or former database: its app's id, whether it is production's, and its token generation."""
    rows = registry.rows(
        "select app_id, production, token_generation from database join timeline on timeline.id = timeline_id"
        " where database.id = ?",
        database_id,
    )
    found = ((AppId(str(app_id)), bool(production), int(str(generation))) for app_id, production, generation in rows)
    return next(found, None)


def sharers(registry: Tables, database_id: DatabaseId) -> list[ShareId]:
    """The ids of the shares by which timelines use this database of another one's."""
    return [ShareId(str(row[0])) for row in registry.rows("select id from share where database_id = ?", database_id)]


def renew_all(registry: Tables) -> None:
    """Every server needs new logins: the home has another key."""
    registry.write("update database set renewals = renewals + 1 where status not in ('archived', 'purged')")


def mark_renewed(registry: Tables, databases: Iterable[Database]) -> None:
    """Their servers know who may log in, as of when these values were read."""
    values = [(item.renewals, item.token_generation, item.id) for item in databases]
    registry.write_all("update database set renewed = max(renewed, ?), told_generation = ? where id = ?", values)


def mark_told(registry: Tables, databases: Iterable[Database]) -> None:
    """Their servers know what their own timelines log in with; and so who may, where no other timeline does."""
    values = [(item.token_generation, item.renewals, item.id) for item in databases]
    registry.write_all(
        "update database set told_generation = ?, renewed = iif("
        "exists (select 1 from share where database_id = database.id), renewed, max(renewed, ?)) where id = ?",
        values,
    )
