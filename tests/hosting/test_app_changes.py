"""Changes of an app that meet: a person's, those of the manager, crashes, and failures of the registry."""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from apps_by_hand import AppsByHand, apps_by_hand, kill
from support import git, ok, until

from provisioner.core.errors import NotResolved
from provisioner.core.hosting import AppState, Deployment, DeploymentState
from provisioner.hosting.apps.messages import StartEnded
from provisioner.hosting.deployments.cleaning import settle
from provisioner.hosting.deployments.due import wanted_of
from provisioner.hosting.deployments.records import advance, begin, set_state
from provisioner.hosting.ports import free_port
from provisioner.hosting.router.waking import AppStopped
from provisioner.operations.hosting import timeline_app
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.runs.run_mark import marked
from provisioner.system import failpoints
from provisioner.system.router_address import RouterAddress


@pytest.fixture
def apps(tmp_path: Path, home: Path) -> Iterator[AppsByHand]:
    with apps_by_hand(tmp_path, home) as found:
        yield found


def _healthy(apps: AppsByHand, text: str) -> Deployment:
    """A deployment that was healthy, as it is recorded, of a new revision."""
    return advance(apps.registry, begin(apps.registry, apps.hosted, apps.push(text), "push"), DeploymentState.READY)


def _roll_back(apps: AppsByHand, commit: str | None = None) -> list[str]:
    return apps.do(timeline_app.roll_back(apps.registry, apps.app, apps.timeline, commit))


def test_a_rollback_does_not_wait_for_the_revision_that_crashes(apps: AppsByHand) -> None:
    apps.push("one")
    first = apps.deploy()
    apps.push("two")
    second = apps.deploy()
    assert apps.checkout(first).exists()
    (apps.checkout(second) / "broken").write_text("")
    kill(apps, second)
    apps.take_all(lambda: "it ended with exit code 3" in apps.state.error and not apps.busy)
    apps.item.restart_at = math.inf  # as after many crashes
    apps.look()
    assert not apps.busy
    _roll_back(apps)
    apps.look()
    apps.take_all(lambda: apps.running == [first.id] and not apps.busy)
    assert (apps.state.active, apps.state.state) == (first.id, AppState.RUNNING)


def test_a_redeploy_that_fails_leaves_what_ran_to_fall_back_on(apps: AppsByHand) -> None:
    apps.push("one")
    first = apps.deploy()
    ok(apps.repo, "var", "set", "BROKEN=1")
    apps.do(timeline_app.redeploy(apps.registry, apps.app, apps.timeline))
    assert wanted_of(apps.registry, apps.hosted).to_deploy
    apps.look()
    apps.take_all(lambda: apps.deployments[0].state is DeploymentState.FAILED and not apps.busy)
    known = hosting.deployment(apps.registry, first.id)
    assert known is not None
    assert known.state is DeploymentState.READY
    if apps.running:
        kill(apps, first)
    apps.take_all(lambda: apps.running == [first.id] and not apps.busy)
    assert apps.state.active == first.id


def test_an_app_that_was_stopped_while_it_started_does_not_run(apps: AppsByHand) -> None:
    apps.push("one")
    apps.look()
    apps.take_all(lambda: any(task.deployment.state is DeploymentState.STARTING for task in apps.item.tasks.values()))
    (task,) = apps.item.tasks.values()
    message = apps.manager._queue.get(timeout=60)
    while not isinstance(message, StartEnded):
        message = apps.manager._queue.get(timeout=60)
    apps.do(timeline_app.stop(apps.registry, apps.app, apps.timeline))
    apps.manager._try(apps.registry, message)
    assert apps.state.state is AppState.STOPPED
    assert apps.running == []
    assert apps.routes == {}
    until(lambda: not marked(task.deployment.id))
    until(lambda: not apps.checkout(task.deployment).exists())
    assert apps.deployments[0].state is DeploymentState.CUT_OFF


def test_a_request_that_met_a_stop_starts_nothing(apps: AppsByHand) -> None:
    apps.push("one")
    set_state(apps.registry, apps.hosted, AppState.SLEEPING)
    woken = apps.manager.wake(apps.hosted.host(RouterAddress().domain), None)
    apps.do(timeline_app.stop(apps.registry, apps.app, apps.timeline))
    apps.take()
    assert woken.done()
    assert isinstance(woken.result(), AppStopped)
    assert apps.deployments == []


def test_what_a_person_sets_is_kept_whatever_is_recorded_then(apps: AppsByHand) -> None:
    apps.push("one")
    set_state(apps.registry, apps.hosted, AppState.STARTING)
    change = apps.registry.change

    @contextmanager
    def later() -> Iterator[None]:
        """A person is faster."""
        apps.registry.change = change  # type: ignore[method-assign]
        with Registry.open(apps.home) as other:
            apps.do(timeline_app.lock(other, apps.app, apps.timeline, "HEAD"))
            apps.do(timeline_app.stop(other, apps.app, apps.timeline))
        with change():
            yield

    apps.registry.change = later  # type: ignore[assignment]
    set_state(apps.registry, apps.hosted, AppState.RUNNING, error="new")
    revision = git(apps.repo, "rev-parse", "HEAD").stdout.strip()
    assert (apps.state.state, apps.state.locked) == (AppState.STOPPED, revision)


def test_a_revision_that_did_not_start_leaves_no_files(apps: AppsByHand) -> None:
    apps.push("broken", broken="")
    apps.look()
    apps.take_all(lambda: bool(apps.deployments) and apps.deployments[0].state is DeploymentState.FAILED)
    assert "exit code 3" in apps.deployments[0].error
    until(lambda: not apps.checkout(apps.deployments[0]).parent.exists())


def test_files_of_ended_deployments_are_removed_when_the_daemon_starts(apps: AppsByHand) -> None:
    kept = _healthy(apps, "one")
    built = advance(apps.registry, begin(apps.registry, apps.hosted, kept.revision, "push"), DeploymentState.BUILT)
    failed = advance(apps.registry, begin(apps.registry, apps.hosted, kept.revision, "push"), DeploymentState.FAILED)
    running = Path(apps.home.work) / "of-a-command-that-runs"
    for place in (apps.checkout(kept), apps.checkout(built), apps.checkout(failed), running):
        place.mkdir(parents=True)
    settle(apps.registry)
    assert [apps.checkout(each).parent.exists() for each in (kept, built, failed)] == [True, False, False]
    assert running.exists()


def test_a_failure_after_a_start_leaves_no_process_without_an_owner(
    apps: AppsByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps.push("one")
    first = apps.deploy()
    apps.push("two")
    monkeypatch.setattr(failpoints, "_armed", "")
    monkeypatch.setattr(failpoints, "_raises", False)
    failpoints.arm("hosting.routed!")
    apps.look()
    apps.take_all(lambda: any("injected" in each for each in apps.said))
    second = apps.deployments[0]
    assert second.id != first.id
    assert second.id not in apps.running
    assert apps.routes == {}
    apps.take_all(lambda: apps.running == [second.id] and not apps.busy)
    assert list(apps.routes.values()) == [apps.item.running[second.id].port]
    until(lambda: not marked(first.id))
    until(lambda: len([pid for pid in marked(second.id) if _is_server(pid)]) == 1)  # the first one ends meanwhile


def _is_server(pid: int) -> bool:
    return b"server.py" in _words(pid)


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has ended
        return b""


def test_an_app_whose_port_another_program_got_starts_on_another(
    apps: AppsByHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that start for the first time may choose the same port; the one that is faster has it."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        lost = other.getsockname()[1]

        def found(owner: str, taken: set[int]) -> int:
            return free_port(owner, taken) if lost in taken else lost

        monkeypatch.setattr("provisioner.hosting.deployments.starting.free_port", found)
        apps.push("one")
        apps.look()
        apps.take_all(
            lambda: (
                bool(apps.deployments) and apps.deployments[0].state in (DeploymentState.READY, DeploymentState.FAILED)
            )
        )
        assert (apps.deployments[0].state, apps.deployments[0].error) == (DeploymentState.READY, "")
        assert apps.deployments[0].port != lost


def test_each_rollback_goes_further_back(apps: AppsByHand) -> None:
    one, two, three = (_healthy(apps, text) for text in ("one", "two", "three"))
    set_state(apps.registry, apps.hosted, AppState.RUNNING, active=three.id)
    _roll_back(apps)
    assert apps.state.locked == two.revision
    set_state(apps.registry, apps.hosted, AppState.RUNNING, active=two.id)
    _roll_back(apps)
    assert apps.state.locked == one.revision
    rebuilt = begin(apps.registry, apps.hosted, two.revision, "asked")
    advance(apps.registry, rebuilt, DeploymentState.READY)
    set_state(apps.registry, apps.hosted, AppState.RUNNING, active=rebuilt.id)
    _roll_back(apps)
    assert apps.state.locked == one.revision
    set_state(apps.registry, apps.hosted, AppState.RUNNING, active=one.id)
    with pytest.raises(NotResolved):
        _roll_back(apps)


def test_after_a_redeploy_the_revision_before_is_there_to_go_back_to(apps: AppsByHand) -> None:
    deployed = []
    for text in ("zero", "one", "two"):
        apps.push(text)
        deployed.append(apps.deploy())
    apps.do(timeline_app.redeploy(apps.registry, apps.app, apps.timeline))
    deployed.append(apps.deploy())
    assert [apps.checkout(each).exists() for each in deployed] == [False, True, False, True]
    _roll_back(apps)
    assert apps.state.locked == deployed[1].revision


def test_a_stopped_app_is_started_by_start_and_redeploy_alone(apps: AppsByHand) -> None:
    one, two = (_healthy(apps, text) for text in ("one", "two"))
    set_state(apps.registry, apps.hosted, AppState.RUNNING, active=two.id)
    registry, app, timeline = apps.registry, apps.app, apps.timeline
    apps.do(timeline_app.stop(registry, app, timeline))
    changes: list[tuple[Callable[[], object], str]] = [
        (lambda: _roll_back(apps), one.revision),
        (lambda: apps.do(timeline_app.unlock(registry, app, timeline)), ""),
        (lambda: apps.do(timeline_app.lock(registry, app, timeline, None)), two.revision),
    ]
    for change, locked in changes:
        change()
        assert (apps.state.state, apps.state.locked) == (AppState.STOPPED, locked)
    for propose in (timeline_app.start, timeline_app.redeploy):
        apps.do(timeline_app.stop(registry, app, timeline))
        apps.do(propose(registry, app, timeline))
        assert apps.state.state is AppState.STARTING


def test_a_change_that_waited_for_an_answer_is_checked_again(apps: AppsByHand) -> None:
    apps.push("one")
    proposal = timeline_app.stop(apps.registry, apps.app, apps.timeline)
    ok(apps.repo, "app", "run", "--no-command", "--yes")
    with pytest.raises(NotResolved, match="no command to run"):
        apps.do(proposal)


def test_an_app_that_starts_again_is_run_as_it_is_to_be_run_now(apps: AppsByHand) -> None:
    apps.push("one")
    first = apps.deploy()
    before = apps.item.running[first.id]
    ok(apps.repo, "app", "run", "--command", "exec python3 -u server.py")
    ok(apps.repo, "var", "set", "MORE=1")
    apps.manager._serving._compared = -math.inf
    apps.take_all(lambda: apps.running == [first.id] and apps.item.running[first.id] is not before and not apps.busy)
    until(lambda: [_words(pid) for pid in marked(first.id) if _is_server(pid)] == [b"python3\0-u\0server.py\0"])


def test_what_serves_is_restarted_though_another_revision_ended_after_it(apps: AppsByHand) -> None:
    apps.push("one")
    first = apps.deploy()
    apps.push("two")
    second = apps.deploy()
    apps.manager._serving.begin(apps.registry, apps.item, first, serves=False)  # a request for its URL
    apps.take_all(lambda: set(apps.running) == {first.id, second.id} and not apps.busy)
    for each in (second, first):
        kill(apps, each)
        apps.manager._serving.check(apps.registry, apps.item, apps.item.running[each.id])
    apps.take_all(lambda: apps.running == [second.id] and not apps.busy)
