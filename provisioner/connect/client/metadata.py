"""The metadata exchange as a client has it: what the server says of a database, and how the data path is spoken."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urljoin
from uuid import UUID

from provisioner.connect.client.transport import Fields, RequestTarget, Transport
from provisioner.kv.model import Consistency

VERSIONS: Final = (2, 3)
REQUEST: Final = json.dumps({"supportedVersions": VERSIONS}).encode()
WATCH_VERSION: Final = 3


class ProtocolViolation(Exception):  # noqa: N818 - named for what happened
    """An answer that is not of the protocol."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """`expires_at` in milliseconds since 1970, by the server's clock; `fields` are those of every data request."""

    version: int
    database_id: UUID
    strong: tuple[RequestTarget, ...]
    eventual: tuple[RequestTarget, ...]
    fields: Fields
    expires_at: int

    def place(self, consistency: Consistency, attempt: int) -> RequestTarget:
        """Where to ask: another endpoint for each attempt, those that may lag only for those who do not mind."""
        places = self.eventual + self.strong if consistency == "eventual" else self.strong
        return places[attempt % len(places)]


def parse(body: bytes, url: str, transport: Transport) -> Metadata:
    """The metadata that `url` answered with. Raises Strange."""
    try:
        found = json.loads(body)
        version, identity, token = found["version"], UUID(found["databaseId"]), found["token"]
        expires_at = datetime.fromisoformat(found["expiresAt"])
        endpoints = found["endpoints"]
        strong, eventual = (_places(endpoints, consistency, url, transport) for consistency in ("strong", "eventual"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProtocolViolation(f"its metadata cannot be read: {type(error).__name__}: {error}") from error
    if version not in VERSIONS or isinstance(version, bool):
        raise ProtocolViolation(f"it speaks version {version!r}, not one of {VERSIONS}")
    if not strong:
        raise ProtocolViolation("it has no endpoint with strong consistency")
    if not isinstance(token, str) or not is_token(token):
        raise ProtocolViolation("its token is not a token")
    if expires_at.tzinfo is None:
        raise ProtocolViolation("the time at which its token expires has no time zone")
    fields = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/x-protobuf",
        "x-denokv-database-id": str(identity),
        "x-denokv-version": str(version),
    }
    return Metadata(version, identity, strong, eventual, Fields(fields), int(expires_at.timestamp() * 1000))


def is_token(token: str) -> bool:
    """Whether it can stand in a header."""
    return bool(token) and token.isascii() and token.isprintable() and " " not in token


def _places(endpoints: Any, consistency: str, url: str, transport: Transport) -> tuple[RequestTarget, ...]:
    urls = [urljoin(url, endpoint["url"]) for endpoint in endpoints if endpoint["consistency"] == consistency]
    if url.startswith("https:") and not all(each.startswith("https:") for each in urls):
        raise ValueError("it sends from https to where data would cross the network unencrypted")
    return tuple(transport.place(each) for each in urls)
