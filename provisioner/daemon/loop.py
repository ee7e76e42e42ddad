"""`provisioner watch`: the composition root. The only place that wires the parts and owns threads and shutdown.

The main thread decides which apps are due. Other threads look at them, put names of apps into its queue, run jobs, report
their progress to pushers, and check the quorum of servers.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from provisioner.core.clock import now_ms
from provisioner.core.errors import LockTimeout, summary
from provisioner.core.ids import AppId
from provisioner.daemon.hook_server import HookServer, Push
from provisioner.daemon.limit_monitor import LimitMonitor
from provisioner.daemon.looks import Log, Look, Looked, Looks
from provisioner.daemon.push_answers import answer, answer_known, refused
from provisioner.daemon.quorum_monitor import QuorumMonitor
from provisioner.daemon.spares import SpareStock
from provisioner.daemon.stocktaking import look_through
from provisioner.daemon.watched_app import DEAF_SECONDS, FAILURE_SECONDS, MANY, POLL_SECONDS, WatchedApp
from provisioner.engines import catalog
from provisioner.git.watch import Change, RefWatcher
from provisioner.hosting.dev_servers import DevServers
from provisioner.jobs.queue import WorkerPool
from provisioner.registry.home.follower_guard import must_lead
from provisioner.registry.store import Registry
from provisioner.system import inbox
from provisioner.system.file_lock import try_lock
from provisioner.system.home import Home
from provisioner.system.service_thread import ServiceThread, keep_running
from provisioner.system.signals import SignalPipe

LISTEN_SECONDS = 10.0  # how often to check the thread that receives events, and for dev servers that were killed
QUIET_SECONDS = 1.0  # without events for this long, create databases ahead
STOP_SECONDS = 15.0  # for the work in progress when the daemon stops
PROBE_SECONDS = 0.3  # a process that checks whether a daemon runs holds its lock for an instant


@dataclass(frozen=True, slots=True)
class RefEvents:
    """There were file events of an app's refs."""

    app_id: AppId


class Daemon:
    def __init__(
        self,
        home: Home,
        log: Log,
        ending: Callable[[], None] = lambda: None,
        changed: Callable[[AppId], None] = lambda _: None,
    ) -> None:
        """`ending` is called when it starts to end, to end other parts with it; `changed` with the id of each app that was
        looked at."""
        self.home, self.log, self._ending, self._changed = home, log, ending, changed
        self._queue: queue.SimpleQueue[AppId | RefEvents | Push | Looked | None] = queue.SimpleQueue()
        self._heard: set[AppId] = set()
        self._apps: dict[AppId, WatchedApp] = {}
        self._stopping = threading.Event()
        self._inbox_watched = False
        self._spares = SpareStock(log)
        self._looked = 0.0
        self._listened = 0.0
        self._signals: SignalPipe | None = None

    def run(self) -> None:
        """Watch and reconcile until SIGTERM or SIGINT. Raises `Busy` if a daemon already runs for this home."""
        must_lead(self.home)
        path = os.path.join(self.home.locks, "daemon.lock")
        deadline = time.monotonic() + PROBE_SECONDS
        while (lock := try_lock(path)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if lock is None:
            raise LockTimeout(f"a daemon is already running for {self.home.path}", "Stop it first, or leave it running")
        try:
            self._signals = SignalPipe(signal.SIGTERM, signal.SIGINT)
            ServiceThread("signals", self._stop_when_asked).start()
            with Registry.open(self.home, create=True) as registry:
                self._run(registry)
        finally:
            os.close(lock)

    @property
    def replaced(self) -> bool:
        """Did it end by SIGTERM, after which the next daemon usually starts, and not by Ctrl-C?"""
        return self._signals is not None and self._signals.first == signal.SIGTERM

    def _stop_when_asked(self) -> None:
        assert self._signals is not None  # noqa: S101 - made before the thread
        self._signals.wait()
        self._stopping.set()
        self._queue.put(None)

    def _run(self, registry: Registry) -> None:
        self._watcher = RefWatcher(self._on_event, self._on_stir, self._on_trouble)
        hooks = HookServer(self.home, self._queue.put)
        quorum_monitor = QuorumMonitor(self.home, self._queue.put, self.log)
        limits = LimitMonitor(self.home, self.log)
        self._workers = WorkerPool(self.home, self._queue.put, self._on_failure)
        self._looks = Looks(self.home, self._queue.put, self.log)
        self._inbox_watched = self._watcher.watch_inbox(self.home.inbox, lambda: self._queue.put(AppId("")))
        self._watcher.start()
        try:
            self._looks.start()
            self._adopt(registry)
            hooks.open()
            quorum_monitor.start()
            limits.start()
            self.log("info", "watching", apps=len(self._apps), home=self.home.path, pid=os.getpid())
            keep_running("daemon", partial(self._loop, registry), self._stopping.wait)
        finally:
            hooks.close()
            quorum_monitor.close()
            limits.close()
            self._watcher.stop()
            self._end()
            catalog.close()
            self.log("info", "stopped")

    def _end(self) -> None:
        """End the work in progress within STOP_SECONDS. Work that cannot end by then is cut off with the process: the next look
        finishes or undoes it, as after a kill."""
        until = time.monotonic() + STOP_SECONDS
        self._ending()
        self._looks.stop()
        ended = self._workers.close(until)
        if not self._looks.join(until) or not ended:
            self.log("warning", "stopped before all work had ended; the next start repeats it")

    def _loop(self, registry: Registry) -> None:
        while not self._stopping.is_set():
            self._wait(registry)
            self._work(registry)

    # called by other threads

    def _on_event(self, app_id: AppId, change: Change) -> None:
        self._on_stir(app_id)
        if (watched := self._apps.get(app_id)) is not None:
            watched.heard.append(change)
        if app_id not in self._heard:  # once until the app is looked at
            self._heard.add(app_id)
            self._queue.put(RefEvents(app_id))

    def _on_stir(self, app_id: AppId) -> None:
        watched = self._apps.get(app_id)
        if watched is not None and watched.stir(time.monotonic()):
            self._queue.put(app_id)

    def _on_trouble(self, app_id: AppId, why: str) -> None:
        watched = self._apps.get(app_id)
        if watched is not None and not watched.polled:
            watched.polled = True
        self.log("warning", f"{why}; polling instead", app=app_id or None)
        self._queue.put(app_id)

    def _on_failure(self, app_id: AppId, why: str) -> None:
        self.log("error", why, app=app_id)

    # the main thread

    def _adopt(self, registry: Registry) -> None:
        """Watch every app, and look at each, because changes made without a daemon are unknown."""
        now = time.monotonic()
        for app in registry.apps():
            self._apps[app.id] = WatchedApp(due=now)
            self._watch(app.id, app.git_dir)
        look_through(registry, self.log)

    def _watch(self, app_id: AppId, git_dir: bytes) -> None:
        """Listen to an app's refs; if that failed before, polling continues without an attempt at every look."""
        watched = self._apps[app_id]
        watched.git_dir, watched.deaf = git_dir, False
        if not watched.polled and os.path.isdir(git_dir):  # one that is missing is tried again at the next look
            watched.polled = not self._watcher.add(app_id, git_dir)

    def _wait(self, registry: Registry) -> None:
        """Sleep until work is due; read all new messages."""
        now = time.monotonic()
        self._check_now_and_again(now)
        idle = (watched.next_due for watched in self._apps.values() if not watched.busy)
        due = min((when for when in idle if when is not None), default=now + 60)
        due = min(due, self._listened + LISTEN_SECONDS)
        if not self._inbox_watched:
            due = min(due, now + POLL_SECONDS)
        if self._spares.due:
            if self._looked + QUIET_SECONDS <= now and self._queue.empty():
                self._spares.stock(registry)
                return
            due = min(due, self._looked + QUIET_SECONDS)
        try:
            item = self._queue.get(timeout=max(0.0, due - now))
        except queue.Empty:
            item = AppId("")
        while True:
            if isinstance(item, Looked):
                self._finish(registry, item)
            elif isinstance(item, Push):
                self._push(registry, item)
            elif isinstance(item, RefEvents):
                self._watched(item.app_id).take_heard()
            elif item:
                self._watched(item).wake()
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        for app_id in map(
            AppId, inbox.take(self.home.inbox, {app_id for app_id, each in self._apps.items() if each.busy})
        ):
            self._watched(app_id).wake()

    def _push(self, registry: Registry, push: Push) -> None:
        self._spares.pushed_to = True
        watched = self._watched(push.app_id)
        watched.wake_for(branch for _, branch in push.branches)
        if not push.place or watched.git_dir in (b"", push.place) or not refused(registry, push):
            watched.waiting.append(push)

    def _check_now_and_again(self, now: float) -> None:
        """Poll if no events are received any longer, and remove the routes of dev servers that were killed."""
        if self._listened + LISTEN_SECONDS > now:
            return
        self._listened = now
        try:
            DevServers(self.home).clean_up()
        except Exception as error:  # apps are looked after all the same
            self.log("warning", summary(error))
        if self._watcher.deaf:
            self._inbox_watched = False
            for app_id, watched in self._apps.items():
                if not watched.polled:
                    self._on_trouble(app_id, "the thread that receives file events has ended")

    def _watched(self, app_id: AppId) -> WatchedApp:
        return self._apps.setdefault(app_id, WatchedApp())

    def _work(self, registry: Registry) -> None:
        now = time.monotonic()
        for app_id, watched in list(self._apps.items()):
            if self._stopping.is_set():
                break
            if watched.changes >= MANY and not watched.deaf:
                self._watcher.remove(app_id)
                watched.deaf, watched.due = True, max(now + DEAF_SECONDS, watched.looked + watched.took)
            if watched.busy:
                continue
            if watched.waiting and not answer_known(registry, app_id, watched):
                self._begin(registry, app_id, watched)
                continue
            due = watched.next_due
            if due is not None and due <= now and not watched.wait_out(now):
                self._begin(registry, app_id, watched)

    def _begin(self, registry: Registry, app_id: AppId, watched: WatchedApp) -> None:
        """Have an app looked at, and record that."""
        self._heard.discard(app_id)
        branches = watched.begin(time.monotonic())
        waiting, watched.waiting = watched.waiting, []
        try:
            app = registry.app(app_id)
        except Exception as error:  # of the registry: it is retried
            answer(waiting, summary(error))
            self.log("error", summary(error), app=app_id)
            watched.settled, watched.due = False, time.monotonic() + FAILURE_SECONDS
            return
        if app is None:
            answer(waiting)
            self._watcher.remove(app_id)
            del self._apps[app_id]
            self._changed(app_id)
            inbox.done(self.home.inbox, app_id)
            return
        self._watch(app_id, app.git_dir)
        watched.busy = True
        self._looks.put(Look(app, tuple(waiting), branches))

    def _finish(self, registry: Registry, looked: Looked) -> None:
        """Process the outcome of a look."""
        app, outcome = looked.app, looked.outcome
        watched = self._apps[app.id]
        watched.busy = False
        watched.waiting[:0] = looked.left
        inbox.done(self.home.inbox, app.id)
        self._changed(app.id)
        again = self._workers.offer(list(looked.jobs))
        if looked.failure:
            self._watcher.remove(app.id)  # the path may have another repository when it can be read again
            self.log("error", looked.failure, app=app.slug)
        elif outcome is not None and outcome.actions:
            found = {"actions": outcome.actions, "branches": looked.branches, "ms": round(looked.took * 1000, 1)}
            self.log("info", "reconciled", app=app.slug, **found)
        if outcome is not None and (outcome.actions or not self._looked):
            self._spares.recount()
        self._looked = time.monotonic()
        watched.finish(outcome, looked.took, self._looked, now_ms(), again)
        watched.settled &= not looked.failure and not looked.jobs
