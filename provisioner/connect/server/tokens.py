"""Authorization by tokens. Two kinds of long-lived tokens come in at the metadata exchange; a signed one goes out.

====  ==========================================  ======================================================
ptk_  ``ptk_<id>_<secret>``, made by a user       a row of the registry with the secret's hash
ptd_  ``ptd_<database id>_<keyed hash>``          injected by `exec` and `env`; derived, stored nowhere
pts_  ``pts_<database id>_<rw|ro>_<principal>_    for the data path, signed; the principal is the token
      <expiry in ms>_<signature>``                that it was given for, and is asked for again by `admit`
====  ==========================================  ======================================================

Every refusal is None, whatever the reason: no client learns from it what exists. The status of a database does not matter
here: a client that may open an archived one may learn that it is archived.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hmac import compare_digest

from provisioner.core.ids import AppId, DatabaseId, TokenId
from provisioner.core.model import Scope, Token
from provisioner.registry import tokens
from provisioner.registry.tables.connection import Tables
from provisioner.system import secret_key
from provisioner.system.home import Home

LIFETIME_MS = 2 * 3_600_000
"""The lifetime of a data-path token. Clients want at least an hour (`@deno/kv` asks before every operation when less than five
minutes are left), and a client's clock may be off; a revocation does not wait for it."""

BUSY_SECONDS = 0.5  # the caller serves other requests too

LONGEST = 256  # characters of a token; ours have at most 180
DATA_PATH_PREFIX = "pts_"

_MODES = {"rw": False, "ro": True}
_INJECTED = "injected-"
_TOKEN = "token-"  # noqa: S105 - the start of a principal's name


@dataclass(frozen=True, slots=True)
class Opened:
    """What a token opens until ``expires_at`` (ms). ``principal`` names the token for logs, without any secret."""

    database_id: DatabaseId
    read_only: bool
    expires_at: int
    principal: str


class Access:
    """The home's tokens. For the thread that made it; every call takes some microseconds.

    Calls raise `StorageFailed` where the registry or the key cannot be read.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._registry = Tables.open(home, busy_seconds=BUSY_SECONDS)
        self._mark: tuple[int, int] | None = None
        self._secret = b""
        self._seen = (self._registry.data_version(), secret_key.mark(home))

    def close(self) -> None:
        self._registry.close()

    def changed(self) -> bool:
        """Has the registry or the key changed since the last call? Then what was admitted may no longer be."""
        before, self._seen = self._seen, (self._registry.data_version(), secret_key.mark(self._home))
        return self._seen != before

    def exchange(self, bearer: str, database_id: DatabaseId, now: int) -> Opened | None:
        """What an access token opens of a database, at the metadata exchange."""
        if not _plain(bearer) or not _plain(database_id):
            return None
        expiry = now + LIFETIME_MS
        if bearer.startswith(secret_key.INJECTED_PREFIX):
            principal = self._principal(bearer, database_id)
            return Opened(database_id, False, expiry, principal) if principal is not None else None
        token = tokens.known(self._registry, bearer)
        return self._opened(token, database_id, expiry, now) if token is not None else None

    def _principal(self, bearer: str, database_id: DatabaseId) -> str | None:
        """The owner of an injected token: the database's own timeline, or one that shares it."""
        owned = tokens.ownership(self._registry, database_id)
        generation = owned[2] if owned else 0
        if compare_digest(bearer, secret_key.injected(self._key(), database_id, generation)):
            return f"{_INJECTED}{generation}" if owned else None
        for share in tokens.sharers(self._registry, database_id):
            if compare_digest(bearer, secret_key.injected(self._key(), database_id, generation, share)):
                return f"{_INJECTED}{generation}-{share}"
        return None

    def administers(self, bearer: str, now: int) -> bool:
        """Is this a valid token for everything? It may see what is of no single database."""
        token = tokens.known(self._registry, bearer) if _plain(bearer) else None
        return token is not None and token.valid(now) and token.scope is Scope.ADMIN

    def sign(self, opened: Opened, now: int) -> tuple[str, int]:
        """A data-path token for it and its expiry in ms, which is that of the signature: two hours from now.

        If the access token ends sooner, so does this one, by `admit`: a client whose token expires within
        minutes asks again and again.
        """
        expiry = (now + LIFETIME_MS) // 1000 * 1000
        mode = "ro" if opened.read_only else "rw"
        text = f"{DATA_PATH_PREFIX}{opened.database_id}_{mode}_{opened.principal}_{expiry}"
        return f"{text}_{secret_key.signature(self._key(), text)}", expiry

    def admit(self, bearer: str, now: int) -> Opened | None:
        """What a data-path token opens, as things are now: its principal is asked for in the registry."""
        if not _plain(bearer) or not bearer.startswith(DATA_PATH_PREFIX):
            return None
        text, _, signature = bearer.rpartition("_")
        if not compare_digest(signature, secret_key.signature(self._key(), text)):
            return None
        _, of, mode, principal, digits = text.split("_")  # as `sign` put it
        database_id, expiry = DatabaseId(of), int(digits)
        if now >= expiry:
            return None
        signed = Opened(database_id, _MODES[mode], expiry, principal)
        if principal.startswith(_INJECTED):
            owned = tokens.ownership(self._registry, database_id)
            generation, _, share = principal.removeprefix(_INJECTED).partition("-")
            if owned is None or generation != str(owned[2]):
                return None
            return signed if not share or share in tokens.sharers(self._registry, database_id) else None
        found = tokens.find(self._registry, TokenId(principal.removeprefix(_TOKEN)))
        opened = self._opened(found[0], database_id, expiry, now) if found else None
        return replace(opened, read_only=opened.read_only or signed.read_only) if opened else None

    def _opened(self, token: Token, database_id: DatabaseId, expiry: int, now: int) -> Opened | None:
        """What a token, known to be the bearer's, opens of a database; None where that is out of its scope."""
        owned = tokens.ownership(self._registry, database_id)
        if owned is None or not token.valid(now) or not _covers(token, database_id, owned[0], owned[1]):
            return None
        ends = expiry if token.expires_at is None else min(expiry, token.expires_at)
        return Opened(database_id, token.read_only, ends, f"{_TOKEN}{token.id}")

    def _key(self) -> bytes:
        """The key as the file has it now: it may have been replaced by another process."""
        mark = secret_key.mark(self._home)
        if mark is None or mark != self._mark:
            self._secret = secret_key.secret(self._home)
            self._mark = mark  # taken before reading: a key that came in between is read again
        return self._secret


def _covers(token: Token, database_id: DatabaseId, app_id: AppId, production: bool) -> bool:
    match token.scope:
        case Scope.DATABASE:
            return token.database_id == database_id
        case Scope.APP:
            return token.app_id == app_id and not production
        case Scope.ADMIN:
            return True


def _plain(text: str) -> bool:
    """Whether this can be a valid token at all. Comparing in constant time takes ASCII only, and so does SQLite."""
    return len(text) <= LONGEST and text.isascii()
