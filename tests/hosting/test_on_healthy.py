"""The hook `on-healthy`, from a push to its URL."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from preview_world import PreviewWorld, previews
from support import git, ok, until

# One line for each call: the event, and what its URL answers at that time.
HOOK = """
import http.client, json, os, sys, urllib.parse
event = json.load(sys.stdin)
url = urllib.parse.urlsplit(event["url"])
connection = http.client.HTTPConnection("127.0.0.1", url.port, timeout=60)
connection.request("GET", "/from-the-hook", headers={"Host": url.netloc})
answer = json.loads(connection.getresponse().read())
said = {"event": event, "answer": answer, "timeline": os.environ["DENO_TIMELINE"], "type": os.environ["PROVISIONER_EVENT"]}
with open(CALLS, "a") as file:
    file.write(json.dumps(said) + "\\n")
"""


def test_on_healthy_runs_for_each_revision_once_its_url_answers(tmp_path: Path, home: Path) -> None:
    calls = tmp_path / "calls"
    hook = tmp_path / "hook.py"
    hook.write_text(f"CALLS = {str(calls)!r}\n{HOOK}")

    def called(world: PreviewWorld) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []
        return [each for each in found if each["timeline"] == "git-branch/login"]

    with previews(tmp_path, home) as world:
        ok(world.bare, "app", "set", "--on-healthy", f"{sys.executable} {hook}")
        for number, text in enumerate(("one", "two"), 1):
            world.push("login", text)
            until(lambda number=number: len(called(world)) >= number)  # type: ignore[misc]
            call = called(world)[-1]
            revision = git(world.clone, "rev-parse", "login").stdout.strip()
            assert (call["type"], call["event"]["revision"]) == ("timeline.healthy", revision)
            assert (call["answer"]["text"], call["answer"]["path"]) == (text, "/from-the-hook")
            assert call["event"]["url"] == f"http://login.shop.localhost:{world.port}"
        good = (world.clone / "server.py").read_text()
        (world.clone / "server.py").write_text("raise SystemExit(3)")
        assert "git-branch/login failed" in world.push("login", message="broken")
        (world.clone / "server.py").write_text(good.replace("two", "three"))
        world.push("login", message="fixed")
        until(lambda: called(world)[-1]["answer"]["text"] == "three")
        assert [each["answer"]["text"] for each in called(world)] == ["one", "two", "three"]
        types = [
            json.loads(line)["type"] for line in ok(world.bare, "events", "--json", "--branch", "login").splitlines()
        ]
        assert types.count("timeline.healthy") == 3
        assert types.count("timeline.deploy-failed") == 1
