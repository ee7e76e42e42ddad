"""Authorization: the token of each request, looked up once and remembered until the registry changes."""

from __future__ import annotations

from time import perf_counter
from typing import Any, Final

from provisioner.connect.protocol.http_errors import BAD_REQUEST, TOO_MANY, UNAUTHORIZED, Refused
from provisioner.connect.server.rate_limit import RateLimiter
from provisioner.connect.server.tokens import LONGEST, Access, Opened
from provisioner.core.clock import now_ms
from provisioner.core.ids import DatabaseId

SESSIONS: Final = 50_000  # remembered at a time, of at most 300 bytes each
TRUSTED_SECONDS: Final = 30  # without having asked the registry whether anything was revoked
_VERSIONS: Final = ("2", "3", None)


class TokenSession:
    """What a data-path token opens. `epoch` is the state of the registry that this was true in, `bearer` the header that
    clients send, without what else they may put into it."""

    __slots__ = ("bearer", "database_id", "epoch", "expires_at", "principal", "read_only")

    def __init__(self, opened: Opened, epoch: int, bearer: str) -> None:
        self.bearer = bearer
        self.database_id = opened.database_id
        self.read_only = opened.read_only
        self.expires_at = opened.expires_at
        self.principal = opened.principal
        self.epoch = epoch


class Authenticator:
    """Tokens come as ``Bearer …`` in the header ``authorization``; for the thread of the event loop."""

    def __init__(self, access: Access) -> None:
        self.refused = 0
        self._access = access
        self._attempts = RateLimiter()
        self._sessions: dict[str, TokenSession] = {}
        self._epoch = 0
        self._unasked = 0
        self._now = now_ms()

    def __len__(self) -> int:
        return len(self._sessions)

    def session(self, scope: Any, headers: Any, database_id: DatabaseId) -> TokenSession:
        """For a request of the data path to this database. Raises Refused."""
        session = self._known(headers.get("authorization"))
        if session is None or session.database_id != database_id:
            raise self.denied(scope)
        named = headers.get("x-denokv-database-id") or headers.get("x-transaction-domain-id")
        if named != database_id:
            raise Refused(BAD_REQUEST, "the header x-denokv-database-id names another database than the path")
        if headers.get("x-denokv-version") not in _VERSIONS:
            raise Refused(BAD_REQUEST, "the header x-denokv-version is 2 or 3")
        return session

    def exchange(self, scope: Any, database_id: DatabaseId) -> Opened:
        """What an access token opens, at the metadata exchange. Raises Refused."""
        opened = self._access.exchange(_bearer(scope.headers.get("authorization")), database_id, now_ms())
        if opened is None:
            raise self.denied(scope)
        return opened

    def sign(self, opened: Opened) -> tuple[str, int]:
        """A token for the data path, and when it ends (milliseconds since 1970)."""
        return self._access.sign(opened, now_ms())

    def must_administer(self, scope: Any) -> None:
        """Raises Refused without a token that opens everything."""
        if not self._access.administers(_bearer(scope.headers.get("authorization")), now_ms()):
            raise self.denied(scope)

    def still_opens(self, bearer: str) -> bool:
        """Whether a stream that was opened with this token may continue."""
        return self._known(bearer) is not None

    def each_second(self) -> bool:
        """True where the registry has changed: then all that was looked up is looked up again.

        Raises StorageFailed if the registry cannot be read. After a while no token is accepted from memory.
        """
        self._now = now_ms()
        self._unasked += 1
        if self._unasked > TRUSTED_SECONDS:
            self._epoch += 1
        changed = self._access.changed()
        self._unasked = 0
        if changed:
            self._epoch += 1
        return changed

    def denied(self, scope: Any) -> Refused:
        """The same whether it is the token or the database that there is not."""
        self.refused += 1
        if self._attempts.failed(address_of(scope.client), perf_counter()):
            return Refused(TOO_MANY, "too many attempts with invalid tokens")
        return Refused(UNAUTHORIZED, "this token does not open this database")

    def _known(self, authorization: str | None) -> TokenSession | None:
        if authorization is None:
            return None
        session = self._sessions.get(authorization)
        if session is not None and session.epoch == self._epoch and session.expires_at > self._now:
            return session
        token = _bearer(authorization)
        bearer = f"Bearer {token}"
        if bearer != authorization and len(token) <= LONGEST:  # blanks around it make no other session of it
            return self._known(bearer)
        opened = self._access.admit(token, now_ms())
        if opened is None:
            self._sessions.pop(bearer, None)
            return None
        if bearer not in self._sessions and len(self._sessions) >= SESSIONS:
            del self._sessions[next(iter(self._sessions))]  # the one that came first
        session = self._sessions[bearer] = TokenSession(opened, self._epoch, bearer)
        return session


def address_of(client: str) -> str:
    """Without the port."""
    return client.rpartition(":")[0].strip("[]")


def _bearer(authorization: str | None) -> str:
    """The token in ``Bearer …``; empty where there is none."""
    kind, _, token = (authorization or "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""
