"""A broken file, a server that is away, or a repository that is gone is shown where it belongs, and hides nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import connect_wire as wire
from dashboard_world import visited
from pg_server import QUICK, pg_running
from support import ok, provisioner, repository, rows


def test_pages_and_the_server_work_beside_what_is_broken(tmp_path: Path, home: Path) -> None:
    with pg_running(QUICK) as server:
        repo, other = repository(tmp_path / "shop", "login", "cart"), repository(tmp_path / "gone")
        ok(repo, "init", "--no-hooks", "--name", "shop")
        ok(repo, "instance", "add", "sql", "--engine", "postgres", "--url", server.url())
        ok(repo, "instance", "add", "keys", "--engine", "deno-kv", "--url", server.url())
        for instance in ("sql", "keys"):
            ok(repo, "assign", instance, "shop")
        ok(other, "init", "--no-hooks", "--name", "gone")
        shutil.rmtree(other)
        files = {row["timeline"]: Path(row["path"]) for row in rows(repo) if row["instance"] == "default"}
        broken = files["git-branch/login"]
        for suffix in ("-wal", "-shm"):
            broken.with_name(broken.name + suffix).unlink(missing_ok=True)
        broken.write_bytes(b"\xa5" * broken.stat().st_size)
        found = rows(repo)
        server.stop()
        with visited(home) as (running, visitor):
            pages = [
                "/",
                "/activity",
                "/apps/shop",
                "/apps/gone",
                "/instances/default",
                "/instances/sql",
                "/instances/keys",
            ]
            pages += [f"/databases/{row['id']}" for row in found]
            pages += [f"/databases/{row['id']}/copies" for row in found]
            for path in pages:
                page = visitor.get(path)
                assert page.status == 200, (path, page.text)
                assert "the dashboard failed" not in page.text, path
            told = json.loads(ok(repo, "env", "--branch", "cart", "--instance", "default", "--format", "json"))
            for row in found:
                keys = visitor.get(f"/databases/{row['id']}/keys")
                well = row["instance"] == "default" and row["timeline"] != "git-branch/login"
                assert (keys.status == 200) == well, (row, keys.text)
            with wire.Wire() as client:
                opened = client.opened(told["PROVISIONER_KV_URL"], told["DENO_KV_ACCESS_TOKEN"])
                answer = client.send(opened.url("atomic_write"), wire.put(b"\x02first\0", b"x"), opened.headers())
                assert answer.status == 200
            assert running.process is not None
            assert running.process.poll() is None
        shown = ok(repo, "status", "--all")
        assert shown.count("connected") >= len([row for row in found if row["instance"] == "default"]) - 1
        for words in ("instance list", "database list --all", "timeline list --all", "app list", "token list"):
            assert provisioner(repo, *words.split()).returncode == 0, words
