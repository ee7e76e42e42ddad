"""The table of engines: the only place that knows which there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import assert_never

from provisioner.core.connection import FileLocation, ServerLocation
from provisioner.core.errors import StorageFailed
from provisioner.core.model import Instance
from provisioner.engines.protocol.engine import Engine, StorageTarget


class _Engines(Mapping[str, Engine]):
    """Each engine is imported when it is first used: a home with only deno-kv databases needs no PostgreSQL client."""

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

    def close(self) -> None:
        for engine in list(self._made.values()):  # a thread may still use another for the first time
            engine.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)


ENGINES = _Engines(
    {
        "deno-kv": ("provisioner.engines.files.engine", "DenoKv", ""),
        "postgres": ("provisioner.engines.postgres.engine", "Postgres", "postgres"),
    }
)

_ON_SERVERS = _Engines(
    {
        "deno-kv": ("provisioner.engines.postgres.kv_engine", "DenoKvOnPostgres", "postgres"),
        "postgres": ("provisioner.engines.postgres.engine", "Postgres", "postgres"),
    }
)
"""By the same names, those whose databases are on a server that was linked."""


def engine_of(instance: Instance) -> Engine:
    """What works on the databases of an instance. Raises StorageFailed where a library that it needs is not installed."""
    match instance.location:
        case ServerLocation():
            return _ON_SERVERS[instance.engine]
        case FileLocation():
            return ENGINES[instance.engine]
        case _:
            assert_never(instance.location)


def engine_for(name: str, where: StorageTarget) -> Engine:
    """What would work on the databases of a new instance there. Raises StorageFailed."""
    return (ENGINES if where.url is None else _ON_SERVERS)[name]


def close() -> None:
    """End what the engines of this process keep of their work: its owner ends. They can be used again."""
    ENGINES.close()
    _ON_SERVERS.close()
