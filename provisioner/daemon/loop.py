"""`provisioner watch`: the composition root. The only place that wires the parts and owns threads and shutdown.

The main thread decides which apps are due. Other threads look at them, put names of apps into its queue, run jobs, report
their progress to pushers, and check the quorum of servers.
"""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from provisioner.core.clock import now_ms
from provisioner.core.errors import LockTimeout, summary
from provisioner.core.ids import AppId, InstanceId
from provisioner.core.naming import shown
from provisioner.daemon.hook_server import HookServer, Push
from provisioner.daemon.limit_monitor import LimitMonitor
from provisioner.daemon.looks import Log, Look, Looked, Looks
from provisioner.daemon.quorum_monitor import QuorumMonitor
from provisioner.daemon.stocktaking import look_through
from provisioner.daemon.worker import misplaced, report_known
from provisioner.engines.catalog import engine_of
from provisioner.git.watch import RefWatcher
from provisioner.jobs.queue import WorkerPool
from provisioner.reconcile.apply.ownership import settle_everywhere
from provisioner.reconcile.controller import Outcome
from provisioner.registry.home.follower_guard import must_lead
from provisioner.registry.store import Registry
from provisioner.system import inbox
from provisioner.system.file_lock import try_lock
from provisioner.system.home import Home
from provisioner.system.service_thread import keep_running

SAFETY_SECONDS = 300.0  # even where events come: look at everything this often
POLL_SECONDS = 2.0  # without events
LISTEN_SECONDS = 10.0  # how often to check the thread that receives events
POLL_LOAD = 0.05  # the part of its time that polling may take
REST = 3.0  # times as long as a look took: refs that arrive one by one must not keep a core busy
# While refs are written one after the other, wait for the last: git syncs each, and other writing slows that down. With
# many refs at once, stop listening: receiving an event takes longer than writing the ref.
FEW, MANY = 8, 64  # lock files and refs: `git switch -c` makes four
STILL_SECONDS, STILL_AFTER_MORE = 0.005, 0.02
DEAF_SECONDS = 0.03
LONGEST_WAIT = 2.0
FAILURE_SECONDS = 5.0
QUIET_SECONDS = 1.0  # without events for this long, create databases ahead
LEAST_SPARES, MOST_SPARES = 16, 1024  # also for repositories with pushes: a push may bring any number of branches
STOP_SECONDS = 15.0  # for the work in progress when the daemon stops
PROBE_SECONDS = 0.3  # a process that checks whether a daemon runs holds its lock for an instant


@dataclass(slots=True)
class WatchedApp:
    """The daemon's state for an app between two looks. Times are monotonic seconds."""

    git_dir: bytes = b""
    due: float | None = None
    changes: int = 0
    first_change: float = 0.0
    last_change: float = 0.0
    deaf: bool = False
    polled: bool = False
    took: float = 0.0
    looked: float = 0.0
    waiting: list[Push] = field(default_factory=list)
    busy: bool = False


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
        self._queue: queue.SimpleQueue[AppId | Push | Looked | None] = queue.SimpleQueue()
        self._heard: set[AppId] = set()
        self._apps: dict[AppId, WatchedApp] = {}
        self._stopping = False
        self._inbox_watched = False
        self._short: dict[InstanceId, int] = {}
        self._pushed_to = False
        self._looked = 0.0
        self._listened = 0.0

    def run(self) -> None:
        """Watch and reconcile until SIGTERM or SIGINT. Raises `Busy` if a daemon already runs for this home."""
        must_lead(self.home)
        path = os.path.join(self.home.locks, "daemon.lock")
        deadline = time.monotonic() + PROBE_SECONDS
        while (lock := try_lock(path)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if lock is None:
            raise LockTimeout(f"a daemon is already running for {self.home.path}", "Stop it first, or let it work")
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._stop)
            with Registry.open(self.home, create=True) as registry:
                self._run(registry)
        finally:
            os.close(lock)

    def _stop(self, *_: object) -> None:
        self._stopping = True
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
            keep_running("daemon", partial(self._loop, registry), self._rest)
        finally:
            hooks.close()
            quorum_monitor.close()
            limits.close()
            self._watcher.stop()
            self._end()
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
        while not self._stopping:
            self._wait(registry)
            self._work(registry)

    def _rest(self, seconds: float) -> bool:
        """After a failure. It waits for no event, because a signal handler must not need a lock that this thread holds."""
        time.sleep(seconds)
        return self._stopping

    # called by other threads

    def _on_event(self, app_id: AppId) -> None:
        self._on_stir(app_id)
        if app_id not in self._heard:  # once until the app is looked at
            self._heard.add(app_id)
            self._queue.put(app_id)

    def _on_stir(self, app_id: AppId) -> None:
        watched = self._apps.get(app_id)
        if watched is None:
            return
        now = time.monotonic()
        if not watched.changes or watched.last_change + DEAF_SECONDS < now:
            watched.changes, watched.first_change = 0, now
        watched.changes += 1
        watched.last_change = now
        if watched.changes == MANY:
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
        self._poll_if_deaf(now)
        idle = (watched.due for watched in self._apps.values() if watched.due is not None and not watched.busy)
        due = min(idle, default=now + 60)
        due = min(due, self._listened + LISTEN_SECONDS)
        if not self._inbox_watched:
            due = min(due, now + POLL_SECONDS)
        if self._short:
            if self._looked + QUIET_SECONDS <= now and self._queue.empty():
                self._stock(registry)
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
                self._pushed_to = True
                watched = self._wake(item.app_id)
                if not item.place or watched.git_dir in (b"", item.place) or not self._misplaced(registry, item):
                    watched.waiting.append(item)
            elif item:
                self._wake(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
        for app_id in map(
            AppId, inbox.take(self.home.inbox, {app_id for app_id, each in self._apps.items() if each.busy})
        ):
            self._wake(app_id)

    def _poll_if_deaf(self, now: float) -> None:
        if self._listened + LISTEN_SECONDS > now:
            return
        self._listened = now
        if self._watcher.deaf:
            self._inbox_watched = False
            for app_id, watched in self._apps.items():
                if not watched.polled:
                    self._on_trouble(app_id, "the thread that receives file events has ended")

    def _stock(self, registry: Registry) -> None:
        """Use an idle moment to create some databases ahead, in proportion to the existing ones."""
        instance_id, live = self._short.popitem()
        instance = registry.instance_of(instance_id).storage(moved=True)
        wanted = MOST_SPARES if self._pushed_to else min(max(live, LEAST_SPARES), MOST_SPARES)
        try:
            if engine_of(instance).stock(instance, wanted):
                self._short[instance_id] = live
            elif not self._short:
                settle_everywhere(registry)
        except Exception as error:  # of one instance: the others are looked after all the same
            self.log("warning", summary(error), instance=instance.slug)

    def _wake(self, app_id: AppId) -> WatchedApp:
        """When an app is due: at once if a hook waits, else after a rest of the length of its last look."""
        watched = self._apps.setdefault(app_id, WatchedApp())
        when = watched.looked + watched.took * REST
        watched.due = when if watched.due is None else min(watched.due, when)
        return watched

    def _work(self, registry: Registry) -> None:
        now = time.monotonic()
        for app_id, watched in list(self._apps.items()):
            if self._stopping:
                break
            if watched.changes >= MANY and not watched.deaf:
                self._watcher.remove(app_id)
                watched.deaf, watched.due = True, max(now + DEAF_SECONDS, watched.looked + watched.took)
            if watched.busy:
                continue
            if watched.waiting and not self._answer_known(registry, app_id, watched):
                self._begin(registry, app_id, watched)
                continue
            if watched.due is not None and watched.due <= now and not self._wait_out(app_id, watched, now):
                self._begin(registry, app_id, watched)

    def _answer_known(self, registry: Registry, app_id: AppId, watched: WatchedApp) -> bool:
        """Answer pushes whose branches are already provisioned after an event; look at the other refs afterwards."""
        try:
            app = registry.app(app_id)
            answers = [report_known(registry, app, push.branches) if app else None for push in watched.waiting]
        except Exception:  # the look meets it too, and reports it
            return False
        for push, lines in zip(watched.waiting, answers, strict=True):
            if lines is not None:
                push.answer(lines)
        watched.waiting = [push for push, lines in zip(watched.waiting, answers, strict=True) if lines is None]
        return not watched.waiting

    def _wait_out(self, app_id: AppId, watched: WatchedApp, now: float) -> bool:
        """Postpone a look until the refs are stable. False if it is time."""
        if not watched.changes or watched.first_change + LONGEST_WAIT <= now:
            return False
        if watched.deaf:
            return False  # the look listens again before it reads
        still = STILL_SECONDS if watched.changes <= FEW else STILL_AFTER_MORE
        watched.due = watched.last_change + still
        return watched.due > now

    def _begin(self, registry: Registry, app_id: AppId, watched: WatchedApp) -> None:
        """Have an app looked at, and record that."""
        watched.due, watched.changes = None, 0
        self._heard.discard(app_id)
        waiting, watched.waiting = watched.waiting, []
        try:
            app = registry.app(app_id)
        except Exception as error:  # of the registry: it is retried
            self._answer(waiting, summary(error))
            self.log("error", summary(error), app=app_id)
            watched.due = time.monotonic() + FAILURE_SECONDS
            return
        if app is None:
            self._answer(waiting)
            self._watcher.remove(app_id)
            del self._apps[app_id]
            inbox.done(self.home.inbox, app_id)
            return
        self._watch(app_id, app.git_dir)
        watched.busy = True
        self._looks.put(Look(app, tuple(waiting)))

    def _misplaced(self, registry: Registry, push: Push) -> bool:
        """Whether it was pushed to another repository than the app's. Then its hook gets that answer, and does not wait."""
        app = registry.app(push.app_id)
        problem = misplaced(app, push.place) if app is not None else None
        if problem is not None:
            self._answer([push], str(problem))
        return problem is not None

    @staticmethod
    def _answer(pushes: list[Push], failure: str = "") -> None:
        for push in pushes:
            push.answer([shown(f"provisioner: {failure}")] if failure else [])

    def _finish(self, registry: Registry, looked: Looked) -> None:
        """Process the outcome of a look."""
        app, outcome = looked.app, looked.outcome
        watched = self._apps[app.id]
        watched.busy = False
        watched.looked, watched.took = time.monotonic(), looked.took
        watched.waiting[:0] = looked.left
        inbox.done(self.home.inbox, app.id)
        self._changed(app.id)
        again = self._workers.offer(list(looked.jobs))
        if looked.failure:
            self._watcher.remove(app.id)  # the path may have another repository when it can be read again
            self.log("error", looked.failure, app=app.slug)
        elif outcome is not None and outcome.actions:
            self.log("info", "reconciled", app=app.slug, actions=outcome.actions, ms=round(watched.took * 1000, 1))
        if outcome is not None and (outcome.actions or not self._looked):
            self._short = registry.live_databases()
        self._looked = time.monotonic()
        self._plan_next(watched, outcome, again)

    def _plan_next(self, watched: WatchedApp, outcome: Outcome | None, again: float | None) -> None:
        now = time.monotonic()
        wait = max(POLL_SECONDS, watched.took / POLL_LOAD) if watched.polled else SAFETY_SECONDS
        if outcome is None:
            wait = FAILURE_SECONDS
        elif outcome.next_at is not None:
            wait = min(wait, max(0.01, (outcome.next_at - now_ms()) / 1000))
        due = now + (wait if again is None else min(wait, again))
        watched.due = due if watched.due is None else min(watched.due, due)
