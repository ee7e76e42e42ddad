"""Versions of PostgreSQL: servers from 13 to 18, and programs that are newer than the server."""

from __future__ import annotations

from pathlib import Path

import pytest
from pg_server import PgServer
from pg_world import mark, pg_shop

from provisioner.config import Home
from provisioner.engines.pg import names, tools
from provisioner.engines.table import engine_of
from provisioner.registry.store import Registry


@pytest.mark.parametrize("form", ["custom", "plain", "directory"])
def test_programs_of_18_serve_an_older_server(
    tmp_path: Path, pg: PgServer, home: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Scripts of 17 and newer begin with a setting that older servers refuse."""
    repo = pg_shop(tmp_path / "shop", pg)
    mark(repo, "main", "it's \\ here\tand\nthere")
    newest = tools.packaged()[0]
    assert tools.version(newest) >= 17
    monkeypatch.setattr(tools, "directories", lambda: [newest])
    with Registry.open(Home(str(home))) as registry:
        (instance,) = registry.instances()
        (app,) = registry.apps()
        (database,) = registry.databases(app.id)
    dumps = engine_of(instance).dumps
    assert dumps is not None
    dump = tmp_path / "dump"
    if form == "directory":
        dumps.dump(instance, database, form, str(dump))
    else:
        with dump.open("wb") as file:
            dumps.dump(instance, database, form, file.fileno())
    dumps.load(instance, database, str(dump))
    beside = names.name(names.BESIDE, instance.id, database.id)
    assert pg.ask("select text from mark", database=beside) == [("it's \\ here\tand\nthere",)]
