"""The checks of hosts: custom domains that are not routed, and hosts that get no certificate."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.cli.commands.doctor.processes import Finding
from provisioner.hosting.apps.sites import site_of
from provisioner.hosting.custom_domains import states
from provisioner.hosting.router.certificates import refused
from provisioner.registry.store import Registry
from provisioner.system.router_address import address


def custom_domains(registry: Registry) -> Iterator[Finding]:
    for found in states(registry):
        name = f"domain {found.claim.name}"
        yield name, not found.problem, found.problem or f"leads to {found.timeline} of {found.app}"


def certificates(registry: Registry) -> Iterator[Finding]:
    """The hosts whose last certificate was refused. Others are not affected."""
    router = address(registry.home)
    for host, why in sorted(refused(registry.home).items()):
        if site_of(registry, host, router) is not None:
            text = f"the authority refused its certificate: {why}. Let its DNS entry lead to this machine, and open its port"
            yield f"certificate {host}", False, f"{text}; the router tries again automatically"
