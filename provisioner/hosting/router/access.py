"""What opens previews that are not public: share links, secrets for CI, and access tokens of the home."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from urllib.parse import quote

from provisioner.core.ids import TokenId
from provisioner.core.model import Scope
from provisioner.hosting.router.names import OWN
from provisioner.hosting.router.secret_files import Opener, SecretFiles
from provisioner.hosting.router.sessions import Session, Sessions
from provisioner.hosting.router.waking import Site
from provisioner.registry import tokens
from provisioner.registry.tables.connection import Tables
from provisioner.system.home import Home

SIGN_IN, SIGN_OUT = f"{OWN}/sign-in", f"{OWN}/sign-out"
LINK_MS = 7 * 24 * 3_600_000
HANDED_MS = 60_000  # of a link that a page of the dashboard leads to at once
LONGEST_TOKEN = 256
_BUSY_SECONDS = 0.5


class PreviewAccess:
    """For all threads and processes. Every call looks into the home, and raises StorageFailed if it cannot."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.sessions = Sessions(home)
        self._links = SecretFiles(home, "links")
        self._bypass = SecretFiles(home, "bypass")

    # share links

    def share(
        self,
        host: str,
        app_id: str,
        principal: str,
        now: int,
        *,
        lasts_ms: int = LINK_MS,
        once: bool = False,
        token_id: TokenId | None = None,
        label: str = "",
        following: str = "/",
    ) -> tuple[Opener, str]:
        """A link that signs in to one host until it expires, and the path of its address, which leads on to `following`."""
        link = Opener(secrets.token_hex(8), app_id, host, principal, token_id, label, now, now + lasts_ms, once)
        place = f"&next={quote(following, safe='/')}" if following != "/" else ""
        return link, f"{SIGN_IN}?link={self._links.add(link)}{place}"

    def links(self, now: int) -> list[Opener]:
        return self._links.listing(now)

    def revoke_link(self, link_id: str) -> bool:
        """End a link and the sessions that it opened. False if there is no such link; its sessions end all the same."""
        found = self._links.revoke(lambda link: link.id == link_id)
        self.sessions.revoke(lambda session: session.link_id == link_id)
        return bool(found)

    def use_link(self, host: str, site: Site, text: str, now: int) -> tuple[Session, str] | None:
        """A session for a link's secret."""
        link = self._links.find(text, now)
        if link is None or link.host != host or link.app_id != site.app_id or not self._links.use(text, now):
            return None
        begun = self.sessions.begin(
            *(host, site.app_id, f"link {link.id} of {link.principal}", now),
            ends_at=None if link.once else link.ends_at,
            token_id=link.token_id,
            link_id=link.id,
        )
        if not link.once and self._links.find(text, now) is None:  # it was revoked at this moment
            self.sessions.end(host, begun[1])
            return None
        return begun

    # secrets for CI

    def create_bypass(
        self, app_id: str, principal: str, now: int, *, ends_at: int | None = None, label: str = ""
    ) -> tuple[Opener, str]:
        """A secret for the header that opens all previews of an app."""
        made = Opener(secrets.token_hex(8), app_id, None, principal, None, label, now, ends_at)
        return made, self._bypass.add(made)

    def bypasses(self, now: int) -> list[Opener]:
        return self._bypass.listing(now)

    def revoke_bypass(self, bypass_id: str) -> bool:
        return bool(self._bypass.revoke(lambda each: each.id == bypass_id))

    def bypasses_with(self, site: Site, text: str, now: int) -> bool:
        found = self._bypass.find(text, now)
        return found is not None and found.app_id == site.app_id

    # access tokens

    def use_token(self, host: str, site: Site, text: str, now: int) -> tuple[Session, str] | None:
        """A session for an access token; it ends with the token.

        A token of one database, or that only reads, opens none: an app does with its databases what it wants. One of an app
        opens what it opens of databases, its development timelines.
        """
        found = self._token(site, text, now)
        if found is None:
            return None
        token_id, ends_at = found
        begun = self.sessions.begin(host, site.app_id, f"token {token_id}", now, ends_at=ends_at, token_id=token_id)
        if self._token(site, text, now) is None:  # it was revoked at this moment
            self.sessions.end(host, begun[1])
            return None
        return begun

    def _token(self, site: Site, text: str, now: int) -> tuple[TokenId, int | None] | None:
        if len(text) > LONGEST_TOKEN:
            return None
        with Tables.open(self._home, busy_seconds=_BUSY_SECONDS) as registry:
            token = tokens.known(registry, text)
        if token is None or not token.valid(now) or token.read_only:
            return None
        own = token.scope is Scope.APP and token.app_id == site.app_id and not site.production
        return (token.id, token.expires_at) if own or token.scope is Scope.ADMIN else None

    def _is_valid(self, token_id: TokenId, now: int) -> bool:
        with Tables.open(self._home, busy_seconds=_BUSY_SECONDS) as registry:
            found = tokens.find(registry, token_id)
        return found is not None and found[0].valid(now)

    # the end of access

    def revoke_token(self, token_id: TokenId) -> None:
        """End what a token has opened."""
        self._links.revoke(lambda link: link.token_id == token_id)
        self.sessions.revoke(lambda session: session.token_id == token_id)

    def forget_app(self, app_id: str) -> None:
        """End everything that opens previews of an app."""
        for files in (self._links, self._bypass):
            files.revoke(lambda each: each.app_id == app_id)
        self.sessions.revoke(lambda session: session.app_id == app_id)

    def keep_only(self, find: Callable[[str], Site | None]) -> None:
        """End what opens hosts that are gone, or that are another app's by now."""
        for host, app_id in {(each.host, each.app_id) for each in self.sessions.listing(0)}:
            site = find(host)
            if site is None or site.app_id != app_id:
                self.sessions.revoke(lambda session, of=(host, app_id): (session.host, session.app_id) == of)  # type: ignore[misc]

    def forget_host(self, host: str) -> None:
        """End everything that opens this host, which is gone, or is another's from now on."""
        self._links.revoke(lambda link: link.host == host)
        self.sessions.revoke(lambda session: session.host == host)

    def sweep(self, now: int) -> None:
        """Delete what has ended, is of an earlier key of the home, or was opened by a token that has been revoked since."""
        self.sessions.sweep(now)
        named = {each.token_id for each in self.sessions.listing(now)} | {
            each.token_id for each in self._links.listing(now)
        }
        for token_id in named:
            if token_id is not None and not self._is_valid(token_id, now):
                self.revoke_token(token_id)
        self._links.sweep(now)
        self._bypass.sweep(now)
