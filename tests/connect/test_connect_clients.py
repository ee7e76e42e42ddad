"""Programs as their users write them, each on its branch, against one server: real Deno, @deno/kv in Node, denokv in Python."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from connect_world import QUIET, Server, serving
from counters import BRANCHES, counting, said
from paths import REQUIREMENTS, SUPPORT
from support import files, free_port, shop

from provisioner.kv import open_kv

# Deno's own example for Deno KV with timelines, to the byte.
SEED = """\
const kv = await Deno.openKv();

Deno.serve(async () => {
  const res = await kv.get<number>(["requests"]);
  const requests = res.value + 1;
  await kv.set(["requests"], requests);
  return new Response(JSON.stringify(requests));
});
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return shop(tmp_path / "shop", *BRANCHES[1:])


@pytest.fixture
def server(home: Path, repository: Path) -> Iterator[Server]:
    with serving(home) as server:
        yield server


@contextmanager
def served(repository: Path, branch: str) -> Iterator[str]:
    """The example at work for a branch, and its address."""
    port = free_port()
    command = ["provisioner", "exec", "--branch", branch, "--", "deno", "run", "-A", "main.ts"]
    process = subprocess.Popen(
        command,
        cwd=repository,
        env={**os.environ, **QUIET, "DENO_SERVE_ADDRESS": f"tcp:127.0.0.1:{port}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert "Listening on" in said, said
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.communicate()


def fetched(url: str) -> int:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return int(json.loads(answer.read()))


@pytest.mark.timeout(120)
def test_the_example_counts_for_each_branch_by_itself(server: Server, repository: Path) -> None:
    """Plain `deno run -A main.ts`, no flag, five branches at once."""
    (repository / "main.ts").write_text(SEED)
    with ExitStack() as stack:
        urls = {branch: stack.enter_context(served(repository, branch)) for branch in BRANCHES}
        counted: dict[str, list[int]] = {branch: [] for branch in BRANCHES}
        for turn in range(6):
            for number, branch in enumerate(BRANCHES):
                if turn <= number:
                    counted[branch].append(fetched(urls[branch]))
        print(counted)
        assert counted == {branch: list(range(1, number + 2)) for number, branch in enumerate(BRANCHES)}
        server.stop()
        server.start()
        assert {branch: fetched(url) for branch, url in urls.items()} == {
            branch: number + 2 for number, branch in enumerate(BRANCHES)
        }


@pytest.mark.timeout(180)
def test_node_counts_for_each_branch_by_itself(server: Server, repository: Path, node_modules: Path) -> None:
    script = repository / "connect_count.mjs"
    script.write_text((SUPPORT / "connect_count.mjs").read_text())
    (repository / "node_modules").symlink_to(node_modules)
    with open_kv(files(repository)["cart"]) as kv:
        kv.set(("other",), "there")  # Node says nothing while all is absent
    watcher = counting(repository, "cart", "node", str(script), "watch", "3")
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "null there\n"
    turns = {branch: number + 1 for number, branch in enumerate(BRANCHES)}
    running = {branch: counting(repository, branch, "node", str(script), str(n)) for branch, n in turns.items()}
    for branch, process in running.items():
        everything = "other requests sum" if branch == "cart" else "requests sum"
        assert said(process) == [*map(str, range(1, turns[branch] + 1)), everything]
    assert said(watcher)[-1] == "3 there"
    for branch in BRANCHES:
        program = 'const kv = await Deno.openKv(); console.log((await kv.get(["requests"])).value); kv.close();'
        assert said(counting(repository, branch, "deno", "eval", program)) == [str(turns[branch])]


@pytest.mark.timeout(180)
def test_ours_counts_for_each_branch_by_itself(server: Server, repository: Path) -> None:
    program = (
        "import os; from provisioner.kv import open_kv\n"
        "with open_kv(os.environ['PROVISIONER_KV_URL']) as kv:\n"
        "    for _ in range(int(os.environ['TURNS'])):\n"
        "        count = (kv.get(('requests',)).value or 0) + 1\n"
        "        kv.set(('requests',), count)\n"
        "        print(int(count))\n"
    )
    for turn in range(1, 3):
        for number, branch in enumerate(BRANCHES):
            turns = number + 1
            command = ["env", f"TURNS={turns}", sys.executable, "-c", program]
            first = turns * (turn - 1) + 1
            assert said(counting(repository, branch, *command)) == [str(n) for n in range(first, first + turns)]


@pytest.fixture(scope="session")
def denokv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python of its own with denokv, which wants older libraries than ours. Once for all workers."""
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "denokv"
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (directory / "installed").exists():
            subprocess.run([sys.executable, "-m", "venv", str(directory / "venv")], check=True)
            pip = [str(directory / "venv/bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--requirement", str(REQUIREMENTS / "denokv.txt")], check=True, timeout=240)
            (directory / "installed").touch()
    return directory / "venv/bin/python"


PYTHON = """
import asyncio, os, sys
from denokv import open_kv

async def main():
    async with await open_kv(os.environ["DENO_KV_DEFAULT_PATH"]) as kv:
        for _ in range(int(sys.argv[1])):
            _, found = await kv.get(("requests",))
            write = kv.atomic().set(("requests",), (found.value if found else 0.0) + 1).sum_kvu64(("sum",), 1)
            if found:
                write.check_key_has_version(("requests",), found.versionstamp)
            else:
                write.check_key_not_set(("requests",))
            await write.write()
        await kv.enqueue({"from": "denokv"})
        async for entry in kv.list(prefix=()):
            print(entry.key[0], int(entry.value))

asyncio.run(main())
"""


@pytest.mark.timeout(300)
def test_denokv_for_python_counts_for_each_branch_by_itself(server: Server, repository: Path, denokv: Path) -> None:
    turns = {branch: number + 1 for number, branch in enumerate(BRANCHES)}
    running = {branch: counting(repository, branch, str(denokv), "-c", PYTHON, str(n)) for branch, n in turns.items()}
    for branch, process in running.items():
        assert said(process) == [f"requests {turns[branch]}", f"sum {turns[branch]}"]
    with open_kv(files(repository)["cart"]) as kv:
        heard: list[object] = []

        def handler(message: object) -> None:
            heard.append(message)
            kv.close()

        kv.listen_queue(handler)
    assert heard == [{"from": "denokv"}]
