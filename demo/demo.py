"""What this is for, in half a minute: a bare repository, a clone, three branches, and a counter on each.

Everything happens in a temporary directory. Ends with exit code 1 where anything is not as it says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

BRANCHES = {"main": 3, "feature/login": 2, "fix-checkout": 1}
COUNTER = Path(__file__).with_name("counter.ts")


class Demo:
    def __init__(self, directory: Path) -> None:
        scripts = sysconfig.get_path("scripts")
        self.bare, self.clone = directory / "shop.git", directory / "shop"
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "DENO_"))},
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(directory),
            "PROVISIONER_HOME": str(directory / "home"),
            "DENO_DIR": str(directory / "deno"),
            "DENO_NO_UPDATE_CHECK": "1",
            "NO_COLOR": "1",
        }
        for role in ("AUTHOR", "COMMITTER"):
            self.environ |= {f"GIT_{role}_NAME": "Demo", f"GIT_{role}_EMAIL": "demo@example.com"}

    def run(self, *command: str, cwd: Path | None = None, show: bool = True) -> str:
        """Run a command as a user would type it, and show what it says."""
        if show:
            print(f"\n$ {' '.join(command)}", flush=True)
        done = subprocess.run(
            command,
            cwd=cwd or self.clone,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if show or done.returncode:
            print(done.stdout, end="", flush=True)
        if done.returncode:
            sys.exit(f"demo: {' '.join(command)} ended with exit code {done.returncode}")
        return done.stdout

    def count(self, branch: str, times: int) -> int:
        """Check a branch out, start the counter on it with real Deno, ask it `times`, and return its last answer."""
        self.run("git", "switch", "--quiet", branch, show=False)
        command = ["provisioner", "exec", "--", "deno", "run", "-A", "--unstable-kv", str(COUNTER)]
        process = subprocess.Popen(command, cwd=self.clone, env=self.environ, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            port = process.stdout.readline().strip()
            answers = []
            for _ in range(times):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
                    answers.append(int(json.load(response)))
        finally:
            process.terminate()
            process.wait(10)
        print(f"{branch}: the counter answered {', '.join(map(str, answers))}", flush=True)
        return answers[-1]

    def database(self, branch: str) -> dict[str, Any]:
        listing = json.loads(self.run("provisioner", "status", "--json", show=False))
        return next(item["databases"][0] for item in listing if item["branch"] == branch)

    def until(self, branch: str, status: str) -> None:
        deadline = time.monotonic() + 30
        while self.database(branch)["status"] != status:
            expect(time.monotonic() < deadline, f"the database of {branch} becomes {status}")
            time.sleep(0.1)


def expect(fact: bool, text: str) -> None:
    if not fact:
        sys.exit(f"demo: it is not so that {text}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="provisioner-demo-") as directory:
        demo = Demo(Path(directory))
        demo.run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(demo.bare), cwd=Path(directory))
        demo.run("provisioner", "init", str(demo.bare), "--grace", "1s", cwd=Path(directory))
        demo.run("git", "clone", "--quiet", str(demo.bare), str(demo.clone), cwd=Path(directory))
        demo.run("git", "symbolic-ref", "HEAD", "refs/heads/main", show=False)
        demo.run("git", "commit", "--quiet", "--allow-empty", "-m", "first", show=False)
        for branch in list(BRANCHES)[1:]:
            demo.run("git", "branch", branch, show=False)
        demo.run("git", "push", "--quiet", "origin", *BRANCHES)
        print("\nThe same code on three branches, connected by 'provisioner exec':")
        for branch, times in BRANCHES.items():
            expect(demo.count(branch, times) == times, f"{branch} counts for itself")
        expect(demo.count("main", 1) == BRANCHES["main"] + 1, "main goes on where it was")
        demo.run("provisioner", "status")

        demo.run("git", "push", "--quiet", "origin", "--delete", "feature/login")
        demo.until("feature/login", "archived")
        demo.run("provisioner", "status")
        demo.run("provisioner", "database", "recover", demo.database("feature/login")["name"])
        expect(demo.database("feature/login")["status"] == "connected", "the recovered database is connected")
        expect(demo.count("feature/login", 1) == BRANCHES["feature/login"] + 1, "nothing of it was lost")
        demo.run("provisioner", "status")
        print("\nEvery branch had its own database, and a deleted one came back with its data.")


if __name__ == "__main__":
    main()
