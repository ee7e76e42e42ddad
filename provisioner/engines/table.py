"""The table of engines: the only place that knows which there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from provisioner.engines.base import Engine
from provisioner.errors import StorageFailed


class _Engines(Mapping[str, Engine]):
    """Each is imported when it is first asked for: who has deno-kv databases only needs nothing of PostgreSQL's."""

    def __init__(self, classes: dict[str, tuple[str, str, str]]) -> None:
        self._classes = classes
        self._made: dict[str, Engine] = {}

    def __getitem__(self, name: str) -> Engine:
        """Raises StorageFailed where a library that it needs is not installed."""
        if name not in self._made:
            module, cls, extra = self._classes[name]
            try:
                self._made[name] = getattr(import_module(module), cls)()
            except ModuleNotFoundError as error:
                if (error.name or "").startswith("provisioner"):
                    raise
                raise StorageFailed(
                    f"the engine {name} needs {error.name}, which is not installed",
                    f"Run: pip install 'timeline-provisioner[{extra}]'",
                ) from error
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)


ENGINES: Mapping[str, Engine] = _Engines(
    {
        "deno-kv": ("provisioner.engines.deno_kv", "DenoKv", ""),
        "postgres": ("provisioner.engines.postgres", "Postgres", "postgres"),
    }
)
