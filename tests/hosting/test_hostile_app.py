"""An app of a branch is pushed code: whatever it tries, it reaches nothing of the home, of other branches, or of other apps.

The server it may reach: that is the way to its own database, which needs a token.
"""

from __future__ import annotations

import json
import urllib.parse
from pathlib import Path
from typing import Any

import hostile_app
import pytest
from preview_world import must_confine, previews
from support import status, until

from provisioner.hosting.routes import Routes
from provisioner.system.home import Home


def test_a_hostile_app_reaches_nothing(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    must_confine()
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_of-the-operator")
    netrc = tmp_path / "operator/.netrc"
    netrc.parent.mkdir()
    netrc.write_text("machine forge.example.com password ghp_of-the-operator")
    with previews(tmp_path, home) as world:
        world.push("victim", "victim")
        (world.clone / "server.py").write_text(Path(hostile_app.__file__).read_text())
        said = world.push("evil", message="evil")
        assert "git-branch/evil running" in said
        documents = {each["timeline"]: each for each in status(world.bare)}
        databases = {name: each["databases"][0]["path"] for name, each in documents.items()}
        until(lambda: "victim.shop.localhost" in Routes(Home(str(home))).all())
        ports = Routes(Home(str(home))).all()
        victim = world.said("victim.shop.localhost")["pid"]
        supervisor = Path(f"/proc/{victim}/stat").read_text().rpartition(") ")[2].split()[1]
        target: dict[str, Any] = {
            "token": "ghp_of-the-operator",
            "home": str(home),
            "files": {
                "registry": str(home / "registry.db"),
                "the key": str(home / "keys/connect"),
                "the identity": str(home / "identity"),
                "another branch's database": databases["git-branch/victim"],
                "production's database": databases["production"],
                "the repository's configuration": str(world.bare / "config"),
                "the repository's head": str(world.bare / "HEAD"),
                "the router's configuration": str(home / "router/caddy.json"),
                "the forge's credentials": str(netrc),
                "another app's log": str(next((home / "log/apps").glob("*.log"))),
                "another app's code": f"/proc/{victim}/cwd/server.py",
            },
            "directories": {
                "the home": str(home),
                "the router": str(home / "router"),
                "the routes": str(home / "router/open"),
                "the work of others": str(home / "work"),
                "the logs": str(home / "log"),
                "the repository": str(world.bare),
                "the hooks": str(world.bare / "hooks"),
                "the clone": str(world.clone),
            },
            "ports": {
                "another app": ports["victim.shop.localhost"],
                "production's app": ports["shop.localhost"],
                "the router": world.port,
            },
            "sockets": {
                "of the daemon": str(home / "daemon.sock"),
                "of the gateway": str(home / "router/gateway.sock"),
                "of the router's configuration": str(home / "router/admin.sock"),
            },
            "pids": {"another app": victim, "the daemon": world.running.process.pid}
            | {"the router": world.routers()[0], "another app's supervisor": int(supervisor)},
        }
        query = urllib.parse.quote(json.dumps(target))
        results = world.said("evil.shop.localhost", f"/attack?{query}")["results"]
        reached = {name for name, success in results.items() if success}
        assert len(results) > 70
        for each in target["files"].values():
            assert Path(each).exists(), each
        for each in (*target["directories"].values(), *target["sockets"].values()):
            assert Path(each).exists(), each
        assert reached == set()
        assert world.said("victim.shop.localhost")["text"] == "victim"
