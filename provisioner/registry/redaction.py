"""What commands print, with what opens something taken out: an app's secret variables, and tokens. Best effort, as with
every log: who prints a secret in pieces, or encoded, gets it printed."""

from __future__ import annotations

import re
from typing import Final

from provisioner.core.model import App
from provisioner.registry.store import Registry
from provisioner.registry.variables import listing

HIDDEN: Final = "•••"
SHORTEST: Final = 4  # characters: what is shorter is in every text
_TOKEN: Final = r"\bpt[a-z]_[A-Za-z0-9_-]{16,}"  # noqa: S105 - what tokens look like


class Mask:
    """Of the commands of one app, or of several."""

    def __init__(self, registry: Registry, *apps: App) -> None:
        secrets = {item.value for app in apps for item in listing(registry, app.id) if item.secret}
        lines = {line for secret in secrets for line in (secret, *secret.splitlines()) if len(line) >= SHORTEST}
        ordered = sorted(lines, key=len, reverse=True)
        self._hidden = re.compile("|".join([*map(re.escape, ordered), _TOKEN]))

    def __call__(self, text: str) -> str:
        return self._hidden.sub(HIDDEN, text)
