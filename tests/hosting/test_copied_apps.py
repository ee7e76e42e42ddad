"""An adopted copy of a home: it has nothing to do with the apps that the original runs, and takes nothing of theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from apps_by_hand import AppsByHand, apps_by_hand
from home_world import at, copy
from support import ok

from provisioner.core.hosting import AppState
from provisioner.hosting.apps.manager import AppManager
from provisioner.hosting.deployments.cleaning import forget_all, has_files, settle
from provisioner.hosting.deployments.hosted_timeline import HostedTimeline
from provisioner.hosting.ports import answers
from provisioner.hosting.router.waking import NoSuchApp
from provisioner.operations.hosting import timeline_app
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.runs import workplace
from provisioner.runs.run_mark import marked
from provisioner.system.home import Home
from provisioner.system.router_address import RouterAddress

DOMAIN = "www.shop.test"


@pytest.fixture
def apps(tmp_path: Path, home: Path) -> Iterator[AppsByHand]:
    with apps_by_hand(tmp_path, home) as found:
        yield found


def _domains(apps: AppsByHand) -> list[str]:
    return [each["domain"] for each in json.loads(ok(apps.repo, "app", "domain", "list", "--all", "--json"))]


def test_an_adopted_copy_leaves_the_apps_of_the_original_alone(
    apps: AppsByHand, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apps.push("one")
    first = apps.deploy()
    served = apps.item.running[first.id].port
    monkeypatch.setattr(workplace, "OUTSIDE", str(tmp_path / "outside"))
    theirs = Path(workplace.place(apps.home, first.id, "nobody").checkout)  # as it is for another account
    theirs.mkdir(parents=True)
    ok(apps.repo, "app", "domain", "add", DOMAIN, "--branch", "login", "--trust")
    account = home / "router/data/acme/authority/users/ops/ops.key"
    account.parent.mkdir(parents=True)
    account.write_text("")
    logs = list((home / "log/apps").iterdir())
    assert logs
    copied = copy(home, tmp_path / "copy")
    with at(copied):
        said = ok(apps.repo, "home", "adopt", "--copied")
        assert f"The custom domain {DOMAIN} stays with the original" in said
        assert _domains(apps) == []
        place = Home(str(copied))
        with Registry.open(place) as registry:
            settle(registry)
            assert answers(served)
            assert marked(first.id)
            app = registry.apps()[0]
            timeline = next(each for each in registry.timelines(app.id) if each.name == apps.timeline.name)
            hosted = HostedTimeline(app, timeline, apps.hosted.command)
            state = hosting.hosted(registry, timeline.id)
            assert state is not None
            assert (state.active, state.state, hosting.deployments(registry, timeline.id)) == (
                "",
                AppState.SLEEPING,
                [],
            )
            manager = AppManager(place, RouterAddress(), lambda *_, **__: None, 10)
            host = hosted.host(RouterAddress().domain)
            assert (manager.find(host), manager.wake(host, None).result(60)) == (None, NoSuchApp())
            forget_all(registry, timeline.id)
        for left in (account, *logs):
            assert left.exists()
            assert not (copied / left.relative_to(home)).exists()
    assert theirs.exists()
    assert has_files(apps.registry, apps.hosted, first)
    assert _domains(apps) == [DOMAIN]
    assert answers(served)


def test_an_app_that_a_person_has_stopped_is_stopped_in_a_copy(apps: AppsByHand, home: Path, tmp_path: Path) -> None:
    apps.push("one")
    apps.do(timeline_app.stop(apps.registry, apps.app, apps.timeline))
    with at(copy(home, tmp_path / "copy")):
        ok(apps.repo, "home", "adopt", "--copied")
        with Registry.open(Home(str(tmp_path / "copy"))) as registry:
            states = [each.state for each in hosting.all_hosted(registry, registry.apps()[0].id)]
    assert states == [AppState.STOPPED] * len(states) != []
