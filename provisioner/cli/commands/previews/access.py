"""What opens previews that are not public, as `provisioner token` lists and revokes it."""

from __future__ import annotations

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.model import App
from provisioner.hosting.router.access import PreviewAccess
from provisioner.hosting.router.secret_files import Opener
from provisioner.hosting.router.sessions import Session
from provisioner.operations import documents
from provisioner.registry.store import Registry

SCOPES = {"link": "share link", "previews": "previews, by CI's header", "preview-session": "session of a preview"}


def create_secret(registry: Registry, app: App, ends_at: int | None, label: str) -> tuple[documents.Document, str]:
    """A secret for the header that opens an app's previews, as a document and a text."""
    now = now_ms()
    made, text = PreviewAccess(registry.home).create_bypass(app.id, registry.who, now, ends_at=ends_at, label=label)
    registry.record(now, "token.create", registry.who, app_id=app.id, detail=f"secret of previews {made.id}")
    return _of_opener(registry, made, "previews"), text


def share(registry: Registry, app: App, host: str, lasts_ms: int) -> str:
    """The path of a link that signs in to a host."""
    now = now_ms()
    link, path = PreviewAccess(registry.home).share(host, app.id, registry.who, now, lasts_ms=lasts_ms)
    registry.record(now, "token.create", registry.who, app_id=app.id, detail=f"link {link.id} to {host}")
    return path


def listing(registry: Registry, app: App | None) -> list[documents.Document]:
    """Links, secrets, and sessions that have not ended; of an app, or of all."""
    access, now = PreviewAccess(registry.home), now_ms()
    openers = [(each, "link") for each in access.links(now)] + [(each, "previews") for each in access.bypasses(now)]
    found = [_of_opener(registry, each, scope) for each, scope in openers if app is None or each.app_id == app.id]
    sessions = [each for each in access.sessions.listing(now) if app is None or each.app_id == app.id]
    return [*found, *(_of_session(registry, each) for each in sessions)]


def revoke(registry: Registry, identifier: str) -> documents.Document | None:
    """End the one with this id; None if there is none."""
    access, now = PreviewAccess(registry.home), now_ms()
    found = next((each for each in listing(registry, None) if each["id"] == identifier), None)
    if found is None:
        return None
    access.revoke_link(identifier)
    access.revoke_bypass(identifier)
    access.sessions.revoke(lambda session: session.id == identifier)
    registry.record(now, "token.revoke", registry.who, detail=f"{SCOPES[str(found['scope'])]} {identifier}")
    return {**found, "revoked_at": rfc3339(now)}


def _of_opener(registry: Registry, item: Opener, scope: str) -> documents.Document:
    return {
        **_common(registry, item.id, item.app_id, scope),
        "label": " ".join(word for word in (item.host, item.label) if word),
        "created_at": rfc3339(item.created_at),
        "expires_at": rfc3339(item.ends_at),
    }


def _of_session(registry: Registry, item: Session) -> documents.Document:
    return {
        **_common(registry, item.id, item.app_id, "preview-session"),
        "label": f"{item.host} by {item.principal}",
        "created_at": rfc3339(item.began_at),
        "expires_at": rfc3339(item.ends_at),
    }


def _common(registry: Registry, identifier: str, app_id: str, scope: str) -> documents.Document:
    app = next((each for each in registry.apps() if each.id == app_id), None)
    return {
        "id": identifier,
        "scope": scope,
        "app": app.slug if app is not None else app_id,
        "database": None,
        "read_only": False,
        "revoked_at": None,
    }
