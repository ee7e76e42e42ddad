"""Builds that hang, fill the disk, leave daemons, print secrets, or lead out of their checkout: each harms itself alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

from preview_world import SERVER, PreviewWorld, must_confine, previews
from support import git, ok, small_disk, status, until

RUN = ("--command", "exec python3 server.py", "--build", "sh build.sh")


def _push(world: PreviewWorld, branch: str, build: str, *, wait: bool = True) -> str:
    """A branch whose build runs this script: what the pusher reads, or nothing if it does not wait."""
    git(world.clone, "switch", "-q", "-C", branch, "main")
    (world.clone / "build.sh").write_text(build)
    git(world.clone, "add", ".")
    git(world.clone, "commit", "-q", "--allow-empty", "-m", branch)
    if wait:
        return git(world.clone, "push", "-q", "-f", "origin", branch).stderr
    git(world.clone, "push", "-q", "-f", "origin", branch, add={"PROVISIONER_SKIP": "1"})
    ok(world.bare, "reconcile")
    return ""


def _states(world: PreviewWorld) -> dict[str, str]:
    return {each["branch"]: each["state"] for each in status(world.bare)}


def test_a_hostile_build_harms_itself_alone(tmp_path: Path, home: Path) -> None:
    must_confine()
    with previews(tmp_path, home) as world:
        (world.clone / "build.sh").write_text("true\n")
        git(world.clone, "add", ".")
        git(world.clone, "commit", "-q", "-m", "a build")
        git(world.clone, "push", "-q", "origin", "main")
        ok(world.bare, "var", "set", "--secret", "API_TOKEN=4711-very-secret")
        ok(world.bare, "app", "run", *RUN)
        until(lambda: world.get("shop.localhost")[0] == 200)

        # what forks daemons, which outlive their parents and have sessions of their own
        fork = "(setsid sh -c 'while :; do sleep 0.2; echo $$ >> daemon.log; done' </dev/null >/dev/null 2>&1 &)\n" * 3
        assert "git-branch/daemons running" in _push(world, "daemons", fork)
        assert [pid for pid in world.all_processes() if pid not in world.processes() + world.routers()] == []

        # what prints secrets, encoded or in pieces
        said = _push(world, "prints", 'echo "token $API_TOKEN"; env; printf 4711-; printf "very-secret\\n"; exit 3\n')
        assert "build failed: it ended with exit code 3" in said
        logs = "".join(path.read_text() for path in (home / "log/apps").glob("*.log"))
        assert "token " in logs
        for text in (said, logs, world.get("prints.shop.localhost")[1], ok(world.bare, "logs", "prints")):
            assert "4711-very-secret" not in text

        # what leads out of the checkout: its output, the program that serves, and the log
        for link in (
            "rm -rf server.py; ln -s /etc/passwd server.py",
            "ln -s /etc out; echo x > out/provisioner-was-here",
        ):
            assert "failed" in _push(world, "links", f"set -e; {link}\n")
        assert not os.path.exists("/etc/provisioner-was-here")
        git(world.clone, "switch", "-q", "-C", "committed", "main")
        (world.clone / "public").symlink_to("/etc")
        serve = SERVER.replace("body = json", "said['shadow'] = _read()\n        body = json")
        read = "def _read():\n    try:\n        return open('public/shadow').read()\n    except OSError:\n        return ''\n"
        (world.clone / "server.py").write_text(f"TEXT = 'link'\n{read}{serve}")
        git(world.clone, "add", ".")
        git(world.clone, "commit", "-q", "-m", "a link")
        assert "git-branch/committed running" in git(world.clone, "push", "-q", "origin", "committed").stderr
        answer = json.loads(world.get("committed.shop.localhost")[1])
        assert (answer["text"], answer["shadow"]) == ("link", "")

        # what hangs: neither production nor another app waits for it, nor does its own next revision
        for number in range(3):
            _push(world, f"hangs{number}", "trap '' TERM; while :; do sleep 1; done\n", wait=False)
        until(lambda: [_states(world)[f"hangs{number}"] for number in range(2)] == ["building"] * 2)
        git(world.clone, "switch", "-q", "main")
        (world.clone / "server.py").write_text(f"TEXT = 'second'\n{SERVER}")
        git(world.clone, "commit", "-q", "-a", "-m", "second")
        assert "production running" in git(world.clone, "push", "-q", "origin", "main").stderr
        assert world.said("shop.localhost")["text"] == "second"
        git(world.clone, "push", "-q", "origin", ":hangs1", ":hangs2")
        assert "git-branch/hangs0 running" in _push(world, "hangs0", "true\n")
        until(lambda: not [each for each in world.all_processes() if each not in world.processes() + world.routers()])


def test_a_build_that_fills_the_disk_is_ended_before_others_have_none(tmp_path: Path, home: Path) -> None:
    with small_disk(home, "size=160m"), previews(tmp_path, home, *RUN[:2], "--build", "sh build.sh 2>&1") as world:
        until(lambda: world.get("shop.localhost")[0] >= 500)  # production has no build.sh
        said = _push(world, "fills", "dd if=/dev/zero of=big bs=1M count=4000\nsleep 60\n")
        assert "build failed: the disk of" in said, said
        assert "git-branch/modest running" in _push(world, "modest", "true\n")
        assert world.said("modest.shop.localhost")["timeline"] == "git-branch/modest"
        assert sum(path.stat().st_size for path in (home / "work").rglob("*") if path.is_file()) < 50e6
