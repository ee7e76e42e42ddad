"""A Deno KV database on a cluster behind two servers of ours, real clients that transfer there, and what they are told."""

from __future__ import annotations

import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from connect_world import Access, Server, access, deno_command
from fire_client import ACCOUNTS, BALANCE, WATCHED
from support import daemon, free_port, ok, repository, until

from cluster.running import Cluster
from provisioner.kv import Kv, open_kv

HERE = Path(__file__).parent
DENOS, PYTHONS = 8, 2  # processes: with a client each, and with four
CLOCK = 5.0  # milliseconds by which the clocks of two programs on a machine may differ


class Ack(NamedTuple):
    """A transfer that was acknowledged: between two times of the machine's clock (ms), as the log entry of this number."""

    began: float
    ended: float
    stamp: str
    client: str
    number: int


class Crowd:
    """The programs that transfer and watch, and all they said."""

    def __init__(self, programs: list[tuple[list[str], str]], urls: list[str], token: str, log: Path) -> None:
        self.acks: list[Ack] = []
        self.seen: dict[str, list[str | None]] = {}
        self.back: list[str] = []  # watchers that were shown an older state than before
        self.refused: Counter[str] = Counter()
        self.over: Counter[str] = Counter()
        self._paused: set[str] = set()
        self.clients = sorted(name for _, names in programs for name in names.split(",") if not name.startswith("w"))
        self.watchers = sorted(name for _, names in programs for name in names.split(",") if name.startswith("w"))
        self._processes = []
        errors = log.open("wb")
        for number, (command, names) in enumerate(programs):
            turned = urls[number % 2 :] + urls[: number % 2]
            process = subprocess.Popen(
                [*command, names, *turned],
                env={**os.environ, "DENO_KV_ACCESS_TOKEN": token, "DENO_NO_UPDATE_CHECK": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            self._processes.append(process)
            threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._heard(json.loads(line))

    def _heard(self, said: dict[str, Any]) -> None:
        match said:
            case {"watcher": name, "stamps": stamps}:
                before = self.seen.get(name)
                if before and any((old or "") > (new or "") for old, new in zip(before, stamps, strict=True)):
                    self.back.append(f"{name}: {before}, then {stamps}")
                self.seen[name] = stamps
            case {"client": name, "stamp": stamp, "number": number, "began": began, "ended": ended}:
                self.acks.append(Ack(began, ended, stamp, name, number))
            case {"client": name, "paused": True}:
                self._paused.add(name)
            case {"client": name, "over": _}:
                self.over[name] += 1
            case _:
                self.refused[str(said)] += 1

    def writing(self, since: float, seconds: float = 180) -> None:
        """Wait until each has been told that something is written which it began since then (ms)."""

        def behind() -> set[str]:
            found = {ack.client for ack in reversed(self.acks[-5000:]) if ack.began >= since}
            return set(self.clients) - found

        try:
            until(lambda: not behind(), seconds)
        except AssertionError:
            raise AssertionError(f"{sorted(behind())} are not told that anything is written; {self.refused}") from None
        assert all(process.poll() is None for process in self._processes)

    def have_seen(self, stamps: Sequence[str | None]) -> None:
        """Wait until all watchers have been shown these versionstamps, and nothing later."""
        try:
            until(lambda: all(self.seen.get(each) == list(stamps) for each in self.watchers), 60)
        except AssertionError:
            raise AssertionError(f"{stamps} was not seen: {self.seen}; {self.refused}") from None

    def pause(self) -> None:
        """Nothing is under way any more when this returns."""
        self._paused.clear()
        self._tell("pause")
        until(lambda: self._paused == set(self.clients), 120)

    def go(self) -> None:
        self._tell("go")

    def _tell(self, word: str) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{word}\n")
            process.stdin.flush()

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


class Pauses(NamedTuple):
    """Seconds around an event in which nobody was told that anything is written, and in which each client was not."""

    all: float
    each: list[float]

    def __str__(self) -> str:
        return f"all {self.all:.1f} s, a client {statistics.median(self.each):.1f} s, at worst {max(self.each):.1f} s"


class Fire:
    """`account` 0 to 23 hold what they began with and what the log says, whatever happens."""

    def __init__(self, cluster: Cluster, repo: Path, servers: list[Server], given: Access) -> None:
        self.cluster, self.repo, self.servers, self.given = cluster, repo, servers, given
        self.urls = [given.url.replace(servers[0].base, server.base) for server in servers]
        with self.opened(0) as kv:
            for account in range(ACCOUNTS):
                kv.set(("account", account), BALANCE)
        deno = [(deno_command(HERE / "fire_client.ts"), f"d{number}") for number in range(DENOS)]
        python = [
            ([sys.executable, str(HERE / "fire_client.py")], ",".join(f"p{number}{at}" for at in range(4)))
            for number in range(PYTHONS)
        ]
        watchers = [
            (command, f"w{command[0][-6:]}{number}") for command, _ in (deno[0], python[0]) for number in (0, 1)
        ]
        self.crowd = Crowd([*deno, *python, *watchers], self.urls, given.token, repo.parent / "clients.log")
        self._checked = 0
        self._log: dict[str, dict[int, str]] = defaultdict(dict)
        self._owed = [0] * ACCOUNTS

    def opened(self, server: int) -> Kv:
        return open_kv(self.urls[server], access_token=self.given.token)

    def pauses(self, at: float) -> Pauses:
        """Around a time (ms) in this round."""
        acks = self.crowd.acks[self._checked :]
        ends: dict[str, list[float]] = {name: [] for name in self.crowd.clients}
        for ack in acks:
            ends[ack.client].append(ack.ended)
        return Pauses(_longest([ack.ended for ack in acks], at), [_longest(each, at) for each in ends.values()])

    def check(self, number: int) -> int:
        """Everybody rests: all that was acknowledged is there, and nothing else. How many transfers this round had."""
        self.crowd.pause()
        acks = self.crowd.acks[self._checked :]
        first = {name: len(self._log[name]) for name in self.crowd.clients}
        with self.opened(number % 2) as kv:
            for name in self.crowd.clients:
                entries = kv.list(("log", name), start=("log", name, first[name]), batch_size=500)
                for entry in entries:
                    self._log[name][int(entry.key[2])] = entry.versionstamp or ""
                    self._owed[int(entry.value["from"])] -= int(entry.value["amount"])
                    self._owed[int(entry.value["to"])] += int(entry.value["amount"])
        for ack in acks:
            assert self._log[ack.client].get(ack.number) == ack.stamp, f"{ack} is lost"
        assert sum(map(len, self._log.values())) == len(self.crowd.acks), "something was written that nobody asked for"
        _in_order(self.crowd.acks)
        for server in (0, 1):
            with self.opened(server) as kv:
                accounts = list(kv.list(("account",), batch_size=ACCOUNTS))
                assert [entry.value - BALANCE for entry in accounts] == self._owed
                kv.set(("round",), number)
                last = [kv.get(("round",)).versionstamp, *(entry.versionstamp for entry in accounts[:WATCHED])]
                self.crowd.have_seen(last)
        assert not self.crowd.back
        self._checked = len(self.crowd.acks)
        self.crowd.go()
        return len(acks)


def _longest(ends: list[float], since: float) -> float:
    """Seconds between two of these times (ms), of which the later is not before `since`; 0 where there are none."""
    pairs = itertools.pairwise(sorted(ends))
    return max((later - sooner for sooner, later in pairs if later >= since), default=0.0) / 1000


def _in_order(acks: list[Ack]) -> None:
    """No versionstamp was given twice, and what began after something was acknowledged has a later one."""
    assert len({ack.stamp for ack in acks}) == len(acks), "a versionstamp was given twice"
    ended = sorted(acks, key=lambda ack: ack.ended)
    at, latest = 0, ""
    for ack in sorted(acks, key=lambda ack: ack.began):
        while ended[at].ended + CLOCK < ack.began:
            latest = max(latest, ended[at].stamp)
            at += 1
        assert ack.stamp > latest, f"{ack} is before {latest}, which had been acknowledged"


@contextmanager
def fire(cluster: Cluster, path: Path, home: Path) -> Iterator[Fire]:
    """Everybody is at work; all of it has ended afterwards, but the cluster."""
    repo = repository(path)
    words = ("--engine", "deno-kv", "--url", cluster.layout.url(), "--require-quorum", "2")
    ok(repo, "instance", "add", "keys", *words)
    ok(repo, "app", "add", "--name", "shop")
    ok(repo, "assign", "keys", "shop")
    servers = [Server(home, free_port(), ("--beside",)) for _ in range(2)]
    with ExitStack() as stack:
        for server in servers:
            server.start()
            stack.callback(server.close)
        stack.enter_context(daemon(home))
        made = Fire(cluster, repo, servers, access(repo, "main"))
        stack.callback(made.crowd.end)
        made.crowd.writing(0)
        yield made


def killed(server: Server) -> None:
    server.stop(signal.SIGKILL)


def now() -> float:
    """Milliseconds since 1970."""
    return time.time() * 1000
