"""Changes in progress: each in its own thread, since some take as long as a disk or a command does.

The request waits a moment. Then the page continues, and the outcome appears as a note. A change that is interrupted
with the server is finished or undone by the next reconcile.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from provisioner.core.errors import LockTimeout, ProvisionerError
from provisioner.core.model import App
from provisioner.dashboard.web.sessions import LoginSession, Notice, Offer
from provisioner.operations.proposal import STEPS, ProgressReporter, Proposal
from provisioner.reconcile.apply.step_result import Progress
from provisioner.registry.redaction import mask
from provisioner.registry.store import Registry
from provisioner.runs.process import Stop
from provisioner.system.home import Home

AT_ONCE: Final = 8  # some are commands that hang: they must not block the others
MOST: Final = 32
LINES: Final = 200

_log = logging.getLogger("provisioner.dashboard")

Undo = Callable[[Registry], Offer | None]
"""Called when the change is done: how to undo it."""


@dataclass(slots=True)
class BackgroundTask:
    """`heard` are its progress messages, `lines` its results; `trouble` is its failure. It `waits` while the maximum number of
    changes is in progress."""

    id: int
    title: str
    who: str
    began_at: int
    heard: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    trouble: ProvisionerError | None = None
    offer: Offer | None = None
    again: Offer | None = None
    """How its form is shown again with the typed values, if it fails."""
    over: threading.Event = field(default_factory=threading.Event)
    waits: bool = True
    alone: bool = False
    """No request waits for it any longer: its outcome becomes a note."""

    @property
    def note(self) -> Notice:
        if self.trouble is None:
            return Notice(" · ".join(self.lines) or self.title, self.offer)
        done = "".join(f"{line} · " for line in self.lines)
        return Notice(f"{done}{self.trouble}", self.again, problem=True)


class BackgroundTasks:
    """For all threads. `changed` is called from any of them when the page has to change."""

    def __init__(self, home: Home, changed: Callable[[], None]) -> None:
        self._home, self._changed = home, changed
        self._lock = threading.Lock()
        self._hands = threading.Semaphore(AT_ONCE)
        self._numbers = itertools.count(1)
        self._works: dict[int, BackgroundTask] = {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the running commands."""
        self._stopping.set()

    @property
    def idle(self) -> bool:
        return not self._works

    def under_way(self) -> list[BackgroundTask]:
        with self._lock:
            return list(self._works.values())

    def begin(
        self,
        session: LoginSession,
        title: str,
        now: int,
        propose: Callable[[Registry, ProgressReporter], Proposal],
        undo: Undo,
        again: Offer | None = None,
    ) -> BackgroundTask:
        """Do it. Raises Busy if too many changes are in progress."""
        with self._lock:
            if len(self._works) >= MOST:
                raise LockTimeout(f"{MOST} changes are already in progress", "Wait for one of them to end")
            work = BackgroundTask(next(self._numbers), title, session.principal, now, again=again)
            self._works[work.id] = work
        words = (work, session, propose, undo)
        try:
            threading.Thread(target=self._do, args=words, name=f"work-{work.id}", daemon=True).start()
        except RuntimeError as error:
            with self._lock:
                del self._works[work.id]
            raise LockTimeout("the server has no thread to spare. Nothing was changed", "Try again") from error
        return work

    def leave(self, work: BackgroundTask) -> bool:
        """Stop waiting for it; False if it has just ended."""
        with self._lock:
            if work.over.is_set():
                return False
            work.alone = True
        return True

    def _do(
        self,
        work: BackgroundTask,
        session: LoginSession,
        propose: Callable[[Registry, ProgressReporter], Proposal],
        undo: Undo,
    ) -> None:
        try:
            with self._hands, Registry.open(self._home, who=work.who) as registry:
                if self._stopping.is_set():
                    raise LockTimeout("the server is shutting down. Nothing was changed", "Try again")
                work.waits = False
                hide = mask(registry, *registry.apps()).text
                telling = _Telling(work, hide, self._changed, self._stopping.is_set)
                for line in propose(registry, telling).do(telling):
                    work.lines.append(line)
                work.offer = undo(registry)
        except ProvisionerError as error:
            work.trouble = error
        except Exception:
            _log.exception("a change failed: %s", work.title)
            work.trouble = ProvisionerError(f"the dashboard failed at: {work.title}", "The server's log says why")
        finally:
            with self._lock:
                del self._works[work.id]
                work.over.set()
                if work.alone:
                    session.tell(work.note)
            self._changed()


class _Telling:
    """Records the progress of a change. See `provisioner.operations.proposal.ProgressReporter`."""

    def __init__(
        self, work: BackgroundTask, hide: Callable[[str], str], changed: Callable[[], None], stopping: Stop
    ) -> None:
        self._work, self._hide, self._changed = work, hide, changed
        self.stopping = stopping

    def say(self, line: str) -> None:
        self._work.heard.append(self._hide(line))
        del self._work.heard[:-LINES]
        self._changed()

    @contextmanager
    def reconciling(self, app: App, *, steps: bool) -> Iterator[Progress | None]:
        def advance(verb: str, count: int) -> None:
            words = STEPS.get(verb, verb)
            self._work.counts[words] = self._work.counts.get(words, 0) + count
            self._changed()

        yield advance
