"""`provisioner logs`: what an app, its builds and commands print, as it is and as it comes, without secrets."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from preview_world import previews
from support import ok, until


def test_logs_are_shown_and_followed(tmp_path: Path, home: Path) -> None:
    with previews(tmp_path, home, "--command", "exec python3 server.py", "--build", "echo built with $KEY") as world:
        ok(world.bare, "var", "set", "--secret", "KEY=4711-very-secret")
        world.push("login", "hello")
        lines = ok(world.bare, "logs", "login").splitlines()
        revision = world.said("login.shop.localhost")["revision"][:12]
        assert any(line.startswith(f"{revision} build: built with ") for line in lines), lines
        assert f"{revision} app: starting hello" in lines
        assert not any("4711" in line for line in lines)
        assert ok(world.bare, "logs", "login", "--source", "build").count("\n") == 1
        words = ("provisioner", "logs", "login", "-f", "--limit", "0", "--json")
        with (tmp_path / "followed").open("wb") as file:
            following = subprocess.Popen(words, cwd=world.bare, stdout=file, env=dict(os.environ))
            try:

                def followed() -> list[str]:
                    world.said("login.shop.localhost", "/asked")
                    return [json.loads(line)["text"] for line in (tmp_path / "followed").read_text().splitlines()]

                until(lambda: "/asked" in followed())
                world.push("login", "again")
                until(lambda: "starting again" in followed())
            finally:
                following.terminate()
                following.wait(60)


def test_logs_since_a_moment_are_in_the_order_in_which_they_were_written(tmp_path: Path, home: Path) -> None:
    with previews(tmp_path, home, "--command", "exec python3 server.py", "--build", "echo built") as world:
        world.push("login", "one")
        world.said("login.shop.localhost", "/before")
        world.push("login", "two")  # while the first still answers
        world.said("login.shop.localhost", "/after")
        until(lambda: "/after" in ok(world.bare, "logs", "login"))
        lines = [json.loads(line) for line in ok(world.bare, "logs", "login", "--json").splitlines()]
        texts = [line["text"] for line in lines]
        wanted = ["built", "starting one", "/before", "built", "starting two", "/after"]
        assert [text for text in texts if text in wanted] == wanted
        assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
        at = next(line["at"] for line in lines if line["text"] == "starting two")
        since = ok(world.bare, "logs", "login", "--since", at).splitlines()
        assert "starting two" in since[0]
        assert "/after" in since[-1]
        assert ok(world.bare, "logs", "login", "--since", "1h", "--limit", "1").count("\n") == 1
        assert ok(world.bare, "logs", "login", "--since", "2099-01-01 00:00") == ""
