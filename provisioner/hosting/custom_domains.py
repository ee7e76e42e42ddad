"""Custom domains: claimed for a timeline, verified, and given up. A claim is one timeline's until a person ends it."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace

from provisioner.core.clock import now_ms, rfc3339
from provisioner.core.custom_domains import CustomDomain, parse_domain
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.model import App, Timeline
from provisioner.core.naming import shown
from provisioner.hosting.domain_proof import proven
from provisioner.hosting.router.access import PreviewAccess
from provisioner.hosting.routes import Routes
from provisioner.reconcile.apply.locks import app_locked
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.system import inbox
from provisioner.system.router_address import address

DNS, OPERATOR = "dns", "operator"
_PROOF_BYTES = 16
Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class DomainState:
    """A claim with the name of its timeline. ``problem`` says why requests for it are refused; empty if they are not."""

    claim: CustomDomain
    app: str
    timeline: str
    url: str
    problem: str

    def document(self) -> Document:
        claim = self.claim
        return {
            "domain": claim.name,
            "app": self.app,
            "timeline": self.timeline,
            "url": self.url,
            "routed": not self.problem,
            "problem": self.problem or None,
            "verified_by": claim.verified_by or None,
            "record": {"name": claim.record, "type": "TXT", "value": claim.proof},
            "created_at": rfc3339(claim.created_at),
            "verified_at": rfc3339(claim.verified_at),
            "ended_at": rfc3339(claim.ended_at),
        }


def add(registry: Registry, app: App, timeline: Timeline, text: str, *, trust: bool = False) -> CustomDomain:
    """Claim a domain for a timeline; with `trust` it is the operator's word that the domain is theirs.

    Adding it to the same timeline again changes nothing but that. Raises UsageError for a name that cannot be a custom
    domain, and ProvisionerError if it is claimed, or reserved.
    """
    name = parse_domain(text)
    if why := address(registry.home).reserved(name):
        raise ProvisionerError(f"this domain cannot be added: {why}", "Use another one")
    if timeline.preview or timeline.gone_at is not None:
        raise NotResolved(
            f"{shown(timeline.name)} has no app, so no domain can lead to it", "Use a branch, or production"
        )
    with app_locked(registry, app), registry.change():
        before = hosting.custom_domain(registry, name)
        if before is not None and before.ended_at is None and before.timeline_id != timeline.id:
            raise ProvisionerError(
                f"{name} belongs to {_owner(registry, before)}",
                f"Remove it there first: provisioner app domain remove {name}",
            )
        kept = before if before is not None and before.ended_at is None else None
        made = kept or CustomDomain(name, app.id, timeline.id, _new_proof(), now_ms())
        if trust and made.verified_at is None:
            made = replace(made, verified_at=now_ms(), verified_by=OPERATOR)
        if made != before:
            if kept is None:
                PreviewAccess(registry.home).forget_host(name)  # what opened the host when it was another timeline's
            hosting.save_domain(registry, made)
            registry.audit(now_ms(), "domain.add", timeline, detail=name)
    inbox.leave(registry.home.inbox, app.id)
    return made


def verify(registry: Registry, text: str, *, trust: bool = False, nameserver: str = "") -> CustomDomain:
    """Have requests for a claimed domain go to its timeline from now on, if its TXT record shows that it is the claimant's.

    With `trust` it is the operator's word. Raises ProvisionerError if DNS does not show that.
    """
    claim = _active(registry, parse_domain(text))
    if claim.verified_at is not None:
        return claim
    if not trust and (why := proven(claim, nameserver)):
        raise ProvisionerError(
            f"{claim.name} is not verified: {why}",
            f'Set the TXT record {claim.record} to "{claim.proof}", then try again',
        )
    app = registry.app(claim.app_id)
    if app is None:
        raise NotResolved(f"the app of {claim.name} was removed", "Register it again: provisioner app add")
    with app_locked(registry, app), registry.change():
        now = _active(registry, claim.name)
        if now.proof != claim.proof:  # it was given to another timeline in the meantime, which needs another proof
            raise ProvisionerError(f"{claim.name} has just been added again", "Verify it again")
        found = replace(now, verified_at=now_ms(), verified_by=OPERATOR if trust else DNS)
        hosting.save_domain(registry, found)
        registry.audit(now_ms(), "domain.verify", registry.timeline(found.timeline_id), detail=found.name)
    inbox.leave(registry.home.inbox, claim.app_id)
    return found


def remove(registry: Registry, text: str) -> CustomDomain:
    """Give a domain up: requests for it are refused at once, with or without a daemon. Raises NotResolved."""
    claim = _known(registry, parse_domain(text))
    with registry.change():
        hosting.forget_domain(registry, claim.name)
        registry.audit(now_ms(), "domain.remove", registry.timeline(claim.timeline_id), detail=claim.name)
    Routes(registry.home).clear(claim.name)
    PreviewAccess(registry.home).forget_host(claim.name)
    inbox.leave(registry.home.inbox, claim.app_id)
    return claim


def states(registry: Registry, app: App | None = None) -> list[DomainState]:
    """The claims of an app, or of all apps."""
    claims = hosting.all_domains(registry) if app is None else hosting.domains_of_app(registry, app.id)
    return [state(registry, claim) for claim in claims]


def state(registry: Registry, claim: CustomDomain) -> DomainState:
    """What becomes of requests for a domain now."""
    app = next((each for each in registry.apps(removed=True) if each.id == claim.app_id), None)
    timeline = os.fsdecode(registry.timeline(claim.timeline_id).name)
    router = address(registry.home)
    return DomainState(claim, app.slug if app else "", timeline, router.url(claim.name), _problem(registry, claim))


def _problem(registry: Registry, claim: CustomDomain) -> str:
    again = f"Add it to a timeline again: provisioner app domain add {claim.name}"
    if claim.ended_at is not None:
        return f"its timeline was archived or its app removed. {again}, or remove it: provisioner app domain remove {claim.name}"
    if why := address(registry.home).reserved(claim.name):
        return f"{why}. Remove it: provisioner app domain remove {claim.name}"
    if claim.verified_at is None:
        record = f'Set the TXT record {claim.record} to "{claim.proof}"'
        return f"it is not verified. {record}, then run: provisioner app domain verify {claim.name}"
    return ""


def _active(registry: Registry, name: str) -> CustomDomain:
    claim = _known(registry, name)
    if claim.ended_at is not None:
        raise ProvisionerError(f"{name} has ended", f"Add it to a timeline again: provisioner app domain add {name}")
    return claim


def _known(registry: Registry, name: str) -> CustomDomain:
    found = hosting.custom_domain(registry, name)
    if found is None:
        raise NotResolved(f"no domain named {name!r}", "List domains: provisioner app domain list --all")
    return found


def _owner(registry: Registry, claim: CustomDomain) -> str:
    app = registry.app(claim.app_id)
    return f"{shown(registry.timeline(claim.timeline_id).name)} of {app.slug if app else 'a removed app'}"


def _new_proof() -> str:
    return f"provisioner={secrets.token_hex(_PROOF_BYTES)}"
