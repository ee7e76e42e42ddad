"""The checks of custom domains: which are not routed, and why."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.cli.commands.doctor.processes import Finding
from provisioner.hosting.custom_domains import states
from provisioner.registry.store import Registry


def custom_domains(registry: Registry) -> Iterator[Finding]:
    for found in states(registry):
        name = f"domain {found.claim.name}"
        yield name, not found.problem, found.problem or f"leads to {found.timeline} of {found.app}"
