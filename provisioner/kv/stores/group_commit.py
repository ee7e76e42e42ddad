"""Group commit: writers that come while one transaction is being made durable share the next one.

A writer that finds no other one writes at once, for itself and for all who queue until then; the others wait for it. So a
single writer never waits, and under load each flush to the disk carries many writes. Writers who have just been
answered together come back one after the other: who leads them waits a moment, lest it goes alone and all others wait for
it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from provisioner.kv.errors import KvError, Uncertain
from provisioner.kv.model import AtomicWrite
from provisioner.kv.store import Outcome

MOST = 512  # writes in a transaction, which bounds the wait
PART = 0.25  # of what the last transaction took, for those to come back who shared it
LONGEST = 0.002  # seconds
LOOK = 0.00005


class _Ticket:
    __slots__ = ("failure", "leads", "outcomes", "turn", "writes")

    def __init__(self, writes: Sequence[AtomicWrite], *, leads: bool = False) -> None:
        self.writes = writes
        self.leads = leads
        self.outcomes: list[Outcome] | None = None
        self.failure: BaseException | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class GroupCommit:
    """`transact` makes one durable transaction of many writes, and answers each."""

    def __init__(self, transact: Callable[[Sequence[AtomicWrite]], list[Outcome]]) -> None:
        self._transact = transact
        self._lock = threading.Lock()
        self._queue: list[_Ticket] = []
        self._led = False
        self._crowd = 1  # who shared the last transaction
        self._took = 0.0

    def write(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        with self._lock:
            if not self._led:
                self._led = True
                ticket = None if self._crowd == 1 else _Ticket(writes, leads=True)
            else:
                ticket = _Ticket(writes)
            if ticket is not None:
                self._queue.append(ticket)
        if ticket is None:
            try:
                return self._timed(writes)
            finally:
                self._pass_on()
        if not ticket.leads:
            self._wait(ticket)
        if ticket.outcomes is None and ticket.failure is None:
            self._lead(ticket)
        if ticket.failure is not None:
            raise again(ticket.failure)
        return ticket.outcomes or []

    def _wait(self, ticket: _Ticket) -> None:
        """Wait until another thread did it or passed the lead on. An interrupted thread leaves the queue, and leads no one."""
        try:
            ticket.turn.acquire()
        except BaseException:
            with self._lock:
                if ticket in self._queue:
                    self._queue.remove(ticket)
            if ticket.leads:
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """The thread that queued first leads next."""
        with self._lock:
            if not self._queue:
                self._led = False
                return
            following = self._queue[0]
            following.leads = True
        following.turn.release()

    def _lead(self, own: _Ticket) -> None:
        try:
            self._gather()
        except BaseException:
            with self._lock:
                self._queue.remove(own)
            self._pass_on()
            raise
        with self._lock:
            taken: list[_Ticket] = []
            count = 0
            for ticket in self._queue:
                if taken and count + len(ticket.writes) > MOST:
                    break
                taken.append(ticket)
                count += len(ticket.writes)
            del self._queue[: len(taken)]
        try:
            self._crowd = len(taken)
            outcomes = self._timed([write for ticket in taken for write in ticket.writes])
        except BaseException as error:
            for ticket in taken:
                ticket.failure = error
            raise
        else:
            at = 0
            for ticket in taken:
                ticket.outcomes = outcomes[at : at + len(ticket.writes)]
                at += len(ticket.writes)
        finally:
            self._pass_on()
            for ticket in taken:
                if ticket is not own:
                    ticket.turn.release()

    def _gather(self) -> None:
        """Wait a moment for those who shared the last transaction."""
        end = time.perf_counter() + min(self._took * PART, LONGEST)
        while len(self._queue) < self._crowd and time.perf_counter() < end:
            time.sleep(LOOK)

    def _timed(self, writes: Sequence[AtomicWrite]) -> list[Outcome]:
        began = time.perf_counter()
        outcomes = self._transact(writes)
        self._took = time.perf_counter() - began
        return outcomes


def again(error: BaseException) -> BaseException:
    """A separate exception for each writer: a traceback belongs to one thread, as does an interruption."""
    if isinstance(error, KvError):
        copy = type(error)(*error.args)
        copy.__cause__ = error.__cause__
        return copy
    if isinstance(error, Exception):
        return error
    return Uncertain(
        f"the writer that this write travelled with was stopped by {type(error).__name__}: it happened, or it did not."
        " Read before you write it again"
    )
