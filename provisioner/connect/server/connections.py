"""Which connections are open, and which have to go: clients that ask for nothing must not keep others out.

The HTTP library tells no protocol apart, and sets no time, before it has read a request; and it accepts no more than so
many connections, whatever holds them. So a thread looks at the process's own sockets, about every second, and ends those

- that have not asked for anything within ten seconds: silent ones, half a request, half a handshake of TLS;
- of an address beyond its limit, and beyond a much smaller one for those that have not asked for anything yet;
- that have rested longest, when all are taken: those of the addresses that hold the most.

Ending is shutting down: the library sees the end of the stream, as from a client that leaves. What is being answered to who
has shown a valid token is ended for no other's sake.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from provisioner.connect.server.rate_limit import network
from provisioner.system.processes import DESCRIPTORS
from provisioner.system.service_thread import ServiceThread

FIRST_REQUEST_SECONDS: Final = 10.0
GRACE_SECONDS: Final = 1.0  # for which a new connection does not count as a stranger
STRANGERS_PART: Final = 16  # of all, that one address may have without asking
FULL_PART: Final = 16  # of all, that are freed when all are taken
LOOK_SECONDS: Final = 1.0
PRESSED_SECONDS: Final = 0.1  # while more than half are taken
LOAD: Final = 0.05  # the part of its time that looking may take
TOLD_SECONDS: Final = 60.0

Log = Callable[..., None]


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """`peer` is as in ``127.0.0.1:40312``, `address` is what limits count by; seen first at `since` (monotonic seconds)."""

    peer: str
    address: str
    since: float


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`most` connections at a time, `each` of one address."""

    most: int
    each: int

    @property
    def strangers(self) -> int:
        """The most connections of one address that have not sent a request."""
        return max(8, min(self.most // STRANGERS_PART, self.each))


@dataclass(frozen=True, slots=True)
class RequestActivity:
    """When each peer began its last request (monotonic seconds), and whose requests of valid tokens are being answered."""

    last: Mapping[str, float]
    under_way: Collection[str]


def leaving(
    connections: Sequence[ClientConnection], asked: RequestActivity, limits: ConnectionLimits, now: float
) -> list[ClientConnection]:
    """Those that have to go."""
    going: set[ClientConnection] = set()
    strangers: defaultdict[str, list[ClientConnection]] = defaultdict(list)
    for each in connections:
        if each.peer in asked.last or each.peer in asked.under_way:
            continue
        if now - each.since > FIRST_REQUEST_SECONDS:
            going.add(each)
        elif now - each.since > GRACE_SECONDS:
            strangers[each.address].append(each)
    for several in strangers.values():
        several.sort(key=lambda each: each.since)
        going.update(several[: max(0, len(several) - limits.strangers)])
    by_address: defaultdict[str, list[ClientConnection]] = defaultdict(list)
    for each in connections:
        if each not in going:
            by_address[each.address].append(each)
    for several in by_address.values():
        over = len(several) - limits.each
        if over > 0:
            several.sort(key=lambda each: (each.peer in asked.under_way, asked.last.get(each.peer, 0.0)))
            going.update(several[:over])
            del several[:over]
    if sum(map(len, by_address.values())) >= limits.most:
        going.update(_rested(by_address.values(), asked, limits.most - max(1, limits.most // FULL_PART)))
    return [each for each in connections if each in going]


def _rested(groups: Iterable[list[ClientConnection]], asked: RequestActivity, room: int) -> Iterable[ClientConnection]:
    """What makes the largest groups equal, until all fit into the `room`: of each what has rested longest."""
    groups = list(groups)
    level = _level([len(group) for group in groups], room)
    for group in groups:
        resting = [each for each in group if each.peer not in asked.under_way]
        resting.sort(key=lambda each: asked.last.get(each.peer, 0.0))
        yield from resting[: max(0, len(group) - level)]


def _level(sizes: Sequence[int], room: int) -> int:
    """How large each may be, so that all fit."""
    left = room
    for at, size in enumerate(sorted(sizes)):
        fair = left // (len(sizes) - at)
        if size > fair:
            return fair
        left -= size
    return max(sizes, default=0)


class Connections:
    """The connections at one port. `asked` and `answering` are for the thread of the event loop, which counts requests."""

    def __init__(self, port: int, limits: ConnectionLimits, log: Log) -> None:
        self.limits = limits
        self.open = 0
        self.ended = 0
        self.answering: dict[Any, str] = {}
        """Requests of valid tokens that are being answered, with their peers."""
        self._port = port
        self._log = log
        self._last: dict[str, float] = {}
        self._now = time.monotonic()
        self._known: dict[int, ClientConnection | None] = {}  # by the inode of the socket; None: another port's
        self._told = 0.0
        self._stopping = threading.Event()
        self._thread = ServiceThread("connections", self._run)

    def asked(self, peer: str) -> None:
        self._last[peer] = self._now

    def each_second(self) -> None:
        self._now = time.monotonic()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.stop()
        self._thread.join()

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._stopping.wait(pause):
            began = time.monotonic()
            self.look(began)
            usual = PRESSED_SECONDS if 2 * self.open > self.limits.most else LOOK_SECONDS
            pause = max(usual, (time.monotonic() - began) / LOAD)

    def look(self, now: float) -> None:
        """Find those that are open, and end those that have to go."""
        found = self._found(now)
        self.open = len(found)
        connections = [connection for connection, _, _ in found.values()]
        for peer in self._last.keys() - {each.peer for each in connections}:
            self._last.pop(peer, None)
        asked = RequestActivity(self._last, set(self.answering.values()))
        going = leaving(connections, asked, self.limits, now)
        for each in going:
            _, descriptor, inode = found[each.peer]
            _end(descriptor, inode)
        self.ended += len(going)
        if going and self._told + TOLD_SECONDS < now:
            self._told = now
            self._log("warning", "ended connections that were idle or too many", count=len(going))

    def _found(self, now: float) -> dict[str, tuple[ClientConnection, int, int]]:
        """By peer, with descriptor and inode. What was known before costs a microsecond each."""
        known: dict[int, ClientConnection | None] = {}
        found: dict[str, tuple[ClientConnection, int, int]] = {}
        for name in os.listdir(DESCRIPTORS):
            descriptor = int(name)
            try:
                status = os.fstat(descriptor)
            except OSError:  # closed in the meantime
                continue
            if not stat.S_ISSOCK(status.st_mode):
                continue
            inode = status.st_ino
            if inode not in self._known:
                self._known[inode] = _connection(descriptor, self._port, now)
            known[inode] = connection = self._known[inode]
            if connection is not None:
                found[connection.peer] = connection, descriptor, inode
        self._known = known
        return found


def _connection(descriptor: int, port: int, now: float) -> ClientConnection | None:
    """The connection to our port that this descriptor is; None where it is something else."""
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        return None
    try:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.getsockname()[1] != port:
            return None
        address, number = found.getpeername()[:2]
    except OSError:  # it listens, or is closed
        return None
    finally:
        found.detach()
    peer = f"[{address}]:{number}" if ":" in address else f"{address}:{number}"
    return ClientConnection(peer, network(address), now)


def _end(descriptor: int, inode: int) -> None:
    """Shut it down, unless the descriptor is something else by now."""
    try:
        ours = os.dup(descriptor)
    except OSError:
        return
    if os.fstat(ours).st_ino != inode:
        os.close(ours)
        return
    with socket.socket(fileno=ours) as connection, suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
