"""The secrets of apps, for text that people read: see `provisioner.core.redaction`."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.core.model import App
from provisioner.core.redaction import Redactor, Secret, secrets_in
from provisioner.registry.store import Registry
from provisioner.registry.variables import listing


def secrets_of(registry: Registry, *apps: App) -> Iterator[Secret]:
    """The apps' secret variables, in every context, and the passwords in the others."""
    for app in apps:
        variables = listing(registry, app.id)
        yield from (Secret(item.value, item.name) for item in variables if item.secret)
        for item in variables:
            yield from secrets_in({item.name: item.value})


def mask(registry: Registry, *apps: App) -> Redactor:
    """Of what was logged without being masked, as commands were before their output was masked, and of other messages."""
    return Redactor(secrets_of(registry, *apps))
