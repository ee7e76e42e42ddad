"""The metadata exchange: the answer to a client with an access token.

Node refuses further fields, uppercase ids and another form of the time.
"""

from __future__ import annotations

import json
import time
from typing import Final

from provisioner.connect.protocol.http_errors import BAD_REQUEST, Refused
from provisioner.core.ids import DatabaseId

VERSIONS: Final = (1, 2, 3)
EVENTUAL: Final = "eventual"
"""The end of the path of the endpoint for reads that may be older."""
_INVALID: Final = 'the body is a JSON object with "supportedVersions", a list of whole numbers'


def exchanged(
    body: bytes,
    database_id: DatabaseId,
    public: str | None,
    used: str,
    token: str,
    expires_at: int,
    *,
    lags: bool = False,
) -> bytes:
    """The answer as JSON. `public` is the address that clients are to use, if one was configured; else it is the one that
    this client `used`, which only version 1 must contain. `lags`: there is an endpoint for reads that may be
    older. Raises Refused."""
    version = _chosen(body)
    endpoint = f"{public or used}/v2/databases/{database_id}" if public or version == 1 else f"../{database_id}"
    endpoints = [{"url": endpoint, "consistency": "strong"}]
    if lags:
        endpoints.append({"url": f"{endpoint}/{EVENTUAL}", "consistency": "eventual"})
    answer = {
        "version": version,
        "uuid" if version == 1 else "databaseId": database_id,
        "endpoints": endpoints,
        "token": token,
        "expiresAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(expires_at // 1000)),
    }
    return json.dumps(answer, separators=(",", ":")).encode()


def _chosen(body: bytes) -> int:
    """The highest version that both know; no body means 1."""
    if not body:
        return 1
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(BAD_REQUEST, _INVALID) from error
    offered = document.get("supportedVersions") if isinstance(document, dict) else None
    if not isinstance(offered, list) or not all(type(each) is int for each in offered):
        raise Refused(BAD_REQUEST, _INVALID)
    common = [version for version in VERSIONS if version in offered]
    if not common:
        raise Refused(BAD_REQUEST, f"this server speaks versions {', '.join(map(str, VERSIONS))} of KV Connect")
    return common[-1]
