"""What a developer waits for at the keyboard: switching, branching, starting a program."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext

from bench.table import Row, compared
from bench.world import PROVISIONER, World, alternated, world


def switch(runs: int) -> list[Row]:
    return [*_local(runs, daemon=True), *_local(runs, daemon=False)]


def _local(runs: int, *, daemon: bool) -> list[Row]:
    with world() as here:
        ours, peer = here.repository("ours"), here.repository("peer")
        for path in (ours, peer):
            here.git(path, "branch", "other")
        here.provisioner(ours, "init")
        for name in ("post-checkout", "reference-transaction"):
            here.hook(os.path.join(peer, ".git"), name, "exit 0")
        with here.daemon() if daemon else nullcontext():
            settle = 0.1 if daemon else 0.7  # without a daemon, a worker stays for a quarter of a second

            def switched(path: str, turn: int) -> float:
                return here.timed(["git", "switch", "--quiet", "main" if turn % 2 else "other"], path)

            def branched(path: str, turn: int) -> float:
                return here.timed(["git", "branch", f"new-{turn}"], path)

            rows = []
            for name, measure in (("switch", switched), ("branch", branched)):
                mine, others = alternated(
                    runs,
                    lambda turn, measure=measure: measure(ours, turn),  # type: ignore[misc]
                    lambda turn, measure=measure: measure(peer, turn),  # type: ignore[misc]
                    settle=settle,
                )
                rows.append(compared(f"{name}{'' if daemon else ', no daemon'}", mine, others, 1.5))
        return rows


def execute(runs: int) -> list[Row]:
    with world() as here:
        path = here.repository("ours")
        here.git(path, "switch", "--quiet", "--create", "work")
        here.provisioner(path, "init")
        _allow_direnv(here, path)
        mine, python, direnv = alternated(
            runs,
            lambda _: here.timed([PROVISIONER, "exec", "--", "true"], path),
            lambda _: here.timed([sys.executable, "-c", "pass"], path),
            lambda _: here.timed(["direnv", "exec", ".", "true"], path),
        )
        return [compared("exec / python -c pass", mine, python, 1.5), compared("exec / direnv", mine, direnv, 0.8)]


def _allow_direnv(here: World, path: str) -> None:
    with open(os.path.join(path, ".envrc"), "w") as file:
        file.write("export DENO_KV_DEFAULT_PATH=/nowhere\n")
    here.run(["direnv", "allow", "."], path)
