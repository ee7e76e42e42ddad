"""What fire_client.ts is, in Python: a thread for each client and watcher. The token is in DENO_KV_ACCESS_TOKEN."""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
import urllib.request
from typing import Any
from urllib.parse import urljoin

from provisioner.kv import CommitResult, Kv, open_kv
from provisioner.kv.errors import KvError

ACCOUNTS, WATCHED, PACE, HEALTHY = 24, 9, 0.06, 1.0
BALANCE = 1000

going = threading.Event()
going.set()


def say(**line: Any) -> None:
    """One line in one system call, so that lines of several threads do not mix."""
    os.write(1, json.dumps(line).encode() + b"\n")


class Place:
    """The database at one of the servers. Who goes over leaves one that does not answer any more."""

    def __init__(self, urls: list[str], at: int, *, goes_over: bool) -> None:
        self._urls, self._at = urls, at
        self._kv: Kv | None = None
        if goes_over:
            threading.Thread(target=self._look, daemon=True).start()

    def kv(self) -> Kv:
        if self._kv is None:
            self._kv = open_kv(self._urls[self._at])
        return self._kv

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(urljoin(self._urls[self._at], "/healthz"), timeout=HEALTHY):
                return True
        except OSError:
            return False

    def failed(self, error: KvError, name: str) -> None:
        if self.healthy():
            say(client=name, refused=repr(error))
        else:
            if self._kv is not None:
                self._kv.close()
            self._kv = None
            self._at = (self._at + 1) % len(self._urls)
            say(client=name, over=self._at)
        time.sleep(0.05)

    def _look(self) -> None:
        while True:
            time.sleep(HEALTHY)
            used = self._kv
            if used is not None and not self.healthy():
                used.close()


def client(name: str, place: Place) -> None:
    number = 0
    while True:
        if not going.is_set():
            say(client=name, paused=True)
            going.wait()
        began, stamp = time.time(), None
        source, target = random.sample(range(ACCOUNTS), 2)
        sent = False
        while stamp is None:
            try:
                stamp, sent = transfer(place.kv(), name, number, source, target, sent)
            except KvError as error:
                sent = True
                place.failed(error, name)
        say(client=name, number=number, stamp=stamp, began=began * 1000, ended=time.time() * 1000)
        number += 1
        time.sleep(random.uniform(0, 2 * PACE))


def transfer(kv: Kv, name: str, number: int, source: int, target: int, sent: bool) -> tuple[str | None, bool]:
    """Its versionstamp, or None where somebody was faster; and whether it may have been sent."""
    key = ("log", name, number)
    if sent and (found := kv.get(key).versionstamp):
        return found, True
    a, b = kv.get_many([("account", source), ("account", target)])
    amount = random.randrange(10)
    made = kv.atomic().check(a, b, (key, None)).set(a.key, a.value - amount).set(b.key, b.value + amount)
    done = made.set(key, {"from": source, "to": target, "amount": amount}).commit()
    return (done.versionstamp, True) if isinstance(done, CommitResult) else (None, sent)


def watcher(name: str, place: Place) -> None:
    keys = [("round",), *(("account", account) for account in range(WATCHED))]
    while True:
        try:
            with place.kv().watch(keys) as states:
                for entries in states:
                    say(watcher=name, stamps=[entry.versionstamp for entry in entries])
        except KvError as error:
            say(client=name, refused=repr(error))
        time.sleep(0.05)


def main(names: str, *urls: str) -> None:
    for at, name in enumerate(names.split(",")):
        watches = name.startswith("w")
        place = Place(list(urls), at % len(urls), goes_over=not watches)
        work = watcher if watches else client
        threading.Thread(target=work, args=(name, place), daemon=True).start()
    for line in sys.stdin:
        if line.strip() == "go":
            going.set()
        else:
            going.clear()


if __name__ == "__main__":
    main(*sys.argv[1:])
