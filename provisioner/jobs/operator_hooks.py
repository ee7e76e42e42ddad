"""Operators' hooks: commands that run when a timeline is connected, its app is healthy, or its branch is gone.

They are for those who run apps elsewhere. A hook is tried at least once for each event, and the hooks of a timeline run in the
order of their events. One that fails is tried again until a later event of the timeline is due. They are the operator's own
commands, so nothing confines them. Databases never wait for them, except that they are not archived before ``on-gone`` has
run, or has had its time (see `provisioner.reconcile.gone_hooks`).
"""

from __future__ import annotations

import json
import os

from provisioner.core.clock import now_ms
from provisioner.core.connection import variables
from provisioner.core.errors import NotResolved, ProvisionerError
from provisioner.core.ids import AppId, TimelineId
from provisioner.core.model import App, RunState, Timeline
from provisioner.core.naming import PRODUCTION, shown
from provisioner.core.redaction import Secret
from provisioner.engines.endpoints import all_reached
from provisioner.jobs.event_documents import EventDocuments
from provisioner.reconcile.apply.locks import hooks_if_free
from provisioner.reconcile.changes.run_records import begun, cut_off, end
from provisioner.registry import events, runs
from provisioner.registry.events import HOOKS, DueHook
from provisioner.registry.exec_lookup import Resolver
from provisioner.registry.redaction import mask, secrets_of
from provisioner.registry.store import Registry
from provisioner.runs.process import STOPPED, Command, Stop, failed, run, shell
from provisioner.system import failpoints

LIMIT_MS = 300_000


def run_hooks(registry: Registry, app_id: AppId, timeline_id: TimelineId, stop: Stop) -> bool:
    """Run the hooks that are due for a timeline. False if another process does.

    Raises ProvisionerError if the last of them failed; it stays due.
    """
    with hooks_if_free(registry, timeline_id) as free:
        if not free:
            return False
        app, timeline = registry.app(app_id), registry.timeline(timeline_id)
        for left in runs.runs(registry, timeline_id):
            if left.state is RunState.RUNNING and left.kind in HOOKS:
                cut_off(registry, left, now_ms())
        while (waiting := events.due_hooks(registry, app_id, timeline_id)) and not stop():
            due, later = waiting[0], waiting[1:]
            command = events.hooks(registry, app_id).get(due.kind)
            if app is None or command is None or (due.attempts and later):
                events.end_hook(registry, due)
                continue
            why = _run(registry, app, timeline, due, command, stop)
            if why and not later and why != STOPPED:
                raise ProvisionerError(f"{shown(timeline.name)}: {why}")
    return True


def _run(registry: Registry, app: App, timeline: Timeline, due: DueHook, text: str, stop: Stop) -> str:
    """Run one hook, and record how that ended. Returns the failure."""
    with begun(registry, timeline, due.kind, text) as begun_run:
        failpoints.point("hook.intended")
        why = run(registry.home, begun_run.id, _command(registry, app, timeline, due, text), stop)
        failpoints.point("hook.ran")
        if why == STOPPED:
            return why
        if why:
            why = mask(registry, app).text(failed(registry.home, begun_run.id, f"the hook {due.kind}", why))
        with registry.change():
            end(registry, begun_run, RunState.FAILED if why else RunState.SUCCEEDED, why)
            if why:
                events.count_attempt(registry, due)
            else:
                events.end_hook(registry, due)
            if not why or not due.attempts:  # a failure is one event, however often it is tried
                action = f"timeline.{due.kind}-failed" if why else f"timeline.{due.kind}"
                name = os.fsdecode(timeline.name)
                registry.record(now_ms(), action, due.kind, app_id=app.id, timeline=name, detail=why or text)
    failpoints.point("hook.recorded")
    return why


def _command(registry: Registry, app: App, timeline: Timeline, due: DueHook, text: str) -> Command:
    document = EventDocuments(registry).of(events.event(registry, due.seq))
    found, credentials = _environment(registry, app, timeline)
    return Command(
        shell(text),
        _directory(registry, app),
        LIMIT_MS,
        {**found, "PROVISIONER_EVENT": due.action},
        (*secrets_of(registry, app), *credentials),
        given=json.dumps(document) + "\n",
    )


def _environment(registry: Registry, app: App, timeline: Timeline) -> tuple[dict[str, str], list[Secret]]:
    """The timeline's variables, and what must not be printed of them; without those of databases if it has none now."""
    resolver = Resolver(registry.home)
    resolver.wary = False  # its branch may be gone
    found = resolver.app(slug=app.slug)
    name = PRODUCTION if timeline.production else timeline.name
    try:
        if found is None:
            raise NotResolved("no app")
        connection = resolver.connection(found, timeline=name, deploying=True)
        ways = all_reached(registry.home, connection)
    except ProvisionerError:
        shown_as = os.fsdecode(timeline.name)
        return {"DENO_TIMELINE": shown_as, "PROVISIONER_APP": app.slug, "PROVISIONER_TIMELINE": shown_as}, []
    return variables(connection, ways), [Secret(each) for way in ways for each in way.credentials()]


def _directory(registry: Registry, app: App) -> str:
    """The repository; the home if that is away."""
    git_dir = os.fsdecode(app.git_dir)
    place = os.path.dirname(git_dir) if os.path.basename(git_dir) == ".git" else git_dir
    return place if os.path.isdir(place) else registry.home.path


def timelines_due(registry: Registry, app: App) -> dict[TimelineId, int]:
    """The timelines of an app for which hooks are due, with the number of the latest event of each."""
    return {due.timeline_id: due.seq for due in events.due_hooks(registry, app.id)}
