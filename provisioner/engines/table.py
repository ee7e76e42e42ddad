"""The table of engines: the only place that knows which there are."""

from __future__ import annotations

from provisioner.engines.base import Engine
from provisioner.engines.deno_kv import DenoKv

ENGINES: dict[str, Engine] = {"deno-kv": DenoKv()}
