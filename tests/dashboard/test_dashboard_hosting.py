"""The dashboard's pages of apps that run for timelines: without a daemon, from what the registry and the logs have."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from changing_world import form
from connect_world import token
from dashboard_desk import Desk, at_the_desk
from dashboard_html import marks, plain, row_of
from dashboard_world import Visitor, code
from support import commit, events, git, ok, repository, status

from provisioner.connect.server.options import Options
from provisioner.connect.server.runner import RunningServer
from provisioner.core.clock import now_ms
from provisioner.core.hosting import (
    AppState,
    Deployment,
    DeploymentState,
    DeploymentStep,
    HostedApp,
    RunCommand,
    StepState,
)
from provisioner.core.model import Timeline
from provisioner.dashboard.app import Dashboard
from provisioner.hosting.deployments.hosted_timeline import app_log, build_log
from provisioner.registry import hosting
from provisioner.registry.store import Registry
from provisioner.system.home import Home
from provisioner.system.router_address import RouterAddress, record


@dataclass(frozen=True, slots=True)
class Shop:
    """An app with production, whose first revision failed, and a branch, which runs."""

    repo: Path
    home: Home
    desk: Desk
    timelines: dict[str, str]

    def state(self, label: str) -> HostedApp:
        with Registry.open(self.home) as registry:
            found = hosting.hosted(registry, self.timelines[label])  # type: ignore[arg-type]
        assert found is not None
        return found

    def run(self) -> RunCommand | None:
        with Registry.open(self.home) as registry:
            return hosting.run_command(registry, registry.apps()[0].id)


def timeline_of(registry: Registry, branch: bytes) -> Timeline:
    (found,) = registry.timelines_where("branch = ?", branch)
    return found


def deployed(registry: Registry, timeline: Timeline, state: DeploymentState, error: str, output: str) -> Deployment:
    now = now_ms()
    made = Deployment(
        str(uuid.uuid4()),
        *(timeline.id, timeline.revision, state, error, "push", None, now - 5000, now),
    )
    hosting.save_deployment(registry, made)
    bad = state is DeploymentState.FAILED
    for name, ended in (("checkout", StepState.SUCCEEDED), ("build", StepState.FAILED if bad else StepState.SUCCEEDED)):
        hosting.save_step(registry, DeploymentStep(made.id, name, ended, error, now - 4000, now - 1500))
    path = Path((build_log if bad else app_log)(registry.home, made.id))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(output)
    return made


@pytest.fixture
def shop(tmp_path: Path, home: Path) -> Iterator[Shop]:
    repo = repository(tmp_path / "shop")
    ok(repo, "init", "--no-hooks")
    ok(repo, "app", "run", "--command", "exec deno serve main.ts", "--health", "/healthz")
    ok(repo, "var", "set", "--secret", "KEY=4711-very-secret")
    git(repo, "branch", "login")
    commit(repo, "Break <the> build")
    ok(repo, "reconcile")
    place = Home(str(home))
    record(place, RouterAddress("https", "previews.example", 443, everyone=False))
    with Registry.open(place) as registry:
        main, login = timeline_of(registry, b"main"), timeline_of(registry, b"login")
        app_id = registry.apps()[0].id
        deployed(
            registry,
            main,
            DeploymentState.FAILED,
            "build failed: exit code 9",
            "compiling\n\x1b[31mno <such>\x1b[0m module\n",
        )
        active = deployed(registry, login, DeploymentState.READY, "", "GET /first\ntoken 4711-very-secret\nGET /last\n")
        hosting.save_hosted(registry, HostedApp(main.id, app_id, "", AppState.FAILED, "build failed: exit code 9"))
        hosting.save_hosted(registry, HostedApp(login.id, app_id, "login", AppState.RUNNING, "", active.id))
    with at_the_desk(home) as desk:
        yield Shop(repo, place, desk, {"main": main.id, "login": login.id})


def test_the_apps_page_shows_the_state_and_url_of_each_timeline(shop: Shop) -> None:
    text = shop.desk.get("/apps/shop").text
    assert "error: failed" in marks(row_of(text, "production"))
    row = row_of(text, "git-branch/login")
    assert "connected: running" in marks(row)
    assert "login.shop.previews.example" in plain(row)
    assert 'href="/open-preview?host=login.shop.previews.example"' in row
    assert "Break &lt;the&gt; build" in row_of(text, "production")


def test_a_failed_push_says_where_it_failed_and_shows_the_end_of_its_log(shop: Shop) -> None:
    text = shop.desk.get(f"/timelines/{shop.timelines['main']}").text
    words = plain(text)
    assert "build failed: exit code 9" in words
    assert "Build: failed build failed after 2.5 s" in words.replace(" :", ":"), words
    assert "no <such> module" in words
    assert "<such>" not in text
    assert "\\x1b" not in text
    deploys = shop.desk.get(f"/timelines/{shop.timelines['main']}/deploys").text
    assert "checkout 2.5 s build 2.5 s, failed" in plain(row_of(deploys, "Break <the> build"))


def test_a_failed_push_is_shown_while_an_older_revision_sleeps_or_serves(shop: Shop) -> None:
    git(shop.repo, "switch", "-q", "login")
    commit(shop.repo, "Second try")
    ok(shop.repo, "reconcile")
    with Registry.open(shop.home) as registry:
        login = timeline_of(registry, b"login")
        deployed(registry, login, DeploymentState.FAILED, "build failed: exit code 7", "no module\n")
        hosting.save_hosted(registry, replace(shop.state("login"), state=AppState.SLEEPING))
    assert "error: push failed" in marks(row_of(shop.desk.get("/apps/shop").text, "git-branch/login"))
    page = plain(shop.desk.get(f"/timelines/{login.id}").text)
    assert "The latest push is not live build failed: exit code 7" in page
    assert "Serves" in page
    (document,) = (each for each in status(shop.repo) if each["timeline"] == "git-branch/login")
    assert (document["state"], document["app_error"]) == ("sleeping", "build failed: exit code 7")


def test_logs_are_shown_by_source_and_revision_without_secrets(shop: Shop) -> None:
    logs = f"/timelines/{shop.timelines['login']}/logs"
    text = shop.desk.get(logs).text
    assert "GET /last" in text
    assert "4711" not in text
    revision = git(shop.repo, "rev-parse", "login").stdout.strip()
    assert "GET /last" in shop.desk.get(f"{logs}?source=app&revision={revision}").text
    for query in ("source=build", f"revision={'0' * 40}", "source=pre-deploy&lines=x"):
        assert "No output yet" in shop.desk.get(f"{logs}?{query}").text
    assert shop.desk.get(f"{logs}?source=../../x&revision=%00&lines=99999999").status == 200


def test_an_app_is_stopped_started_locked_and_rolled_back_and_each_is_undone(shop: Shop, home: Path) -> None:
    page = f"/timelines/{shop.timelines['login']}"
    first, revision = (git(shop.repo, "rev-parse", branch).stdout.strip() for branch in ("main", "login"))

    def sent(what: str, **fields: str) -> str:
        shop.desk.get(page)  # which takes the notes of what was done before
        return shop.desk.send(f"{page}/app/{what}", **fields).location

    sent("stop")
    assert shop.state("login").state is AppState.STOPPED
    shop.desk.press(page, "Undo")
    assert shop.state("login").state is AppState.STARTING
    sent("lock")
    assert shop.state("login").locked == revision
    sent("unlock")
    assert shop.state("login").locked == ""
    shop.desk.press(page, "Undo")
    assert shop.state("login").locked == revision
    sent("rollback", commit=first)
    assert shop.state("login").locked == first
    shop.desk.press(page, "Undo")
    assert shop.state("login").locked == revision
    assert "is not a commit" in shop.desk.get(sent("rollback", commit="no-such-commit")).text
    assert events(home, "app.rollback") == ["login link"]


def test_stopping_production_is_asked_back(shop: Shop) -> None:
    page = f"/timelines/{shop.timelines['main']}"
    assert "Stop the production app of shop?" in shop.desk.send(f"{page}/app/stop").text
    assert shop.state("main").state is AppState.FAILED
    shop.desk.send(f"{page}/app/stop", answer="yes")
    assert shop.state("main").state is AppState.STOPPED


def test_how_an_app_runs_is_set_and_undone_with_a_login_link_alone(shop: Shop) -> None:
    fields = {"start": "command", "command": "node server.js", "install": "npm ci", "idle": "never", "access": "public"}
    shop.desk.send("/apps/shop/run", **fields)
    run = shop.run()
    assert run is not None
    assert (run.command, run.install, run.idle_ms, run.public, run.health) == (
        "node server.js",
        "npm ci",
        None,
        True,
        "/healthz",
    )
    shop.desk.press("/apps/shop/settings", "Undo")
    run = shop.run()
    assert run is not None
    assert (run.command, run.install, run.idle_ms, run.public) == ("exec deno serve main.ts", "", 15 * 60_000, False)
    wrong = shop.desk.send("/apps/shop/run", health="healthz", idle="soon")
    assert wrong.status == 400
    assert "is not a duration" in wrong.text or "is not the path" in wrong.text
    assert "Its databases stay" in shop.desk.send("/apps/shop/run/end").text
    by_token = Visitor(shop.desk.visitor.base)
    by_token.log_in(token(shop.repo, "--admin"))
    settings = by_token.get("/apps/shop/settings").text
    assert not re.search(r'name="(shown_)?command"', settings)
    assert "exec deno serve main.ts" in settings
    for fields in (
        {"command": "rm -rf /"},
        {"access": "public"},
        {"start": "repository"},
        {"idle": "1h", "build": "x"},
    ):
        refused = by_token.post("/apps/shop/run", {"csrf": by_token.csrf, **fields})
        assert (refused.status, "opened with a token" in refused.text) == (400, True), fields
    assert (
        "opened with a token"
        in by_token.get(by_token.post("/apps/shop/run/end", {"csrf": by_token.csrf}).location).text
    )
    assert shop.run() == run
    by_token.post("/apps/shop/run", {"csrf": by_token.csrf, "idle": "1h", "health": "/up"})
    assert shop.run() == replace(run, idle_ms=3_600_000, health="/up")


def test_only_what_was_edited_in_the_form_is_changed(shop: Shop) -> None:
    command = "printf '\té' &&\n  exec deno serve main.ts # " + "x" * 5000
    ok(shop.repo, "app", "run", "--command", command, "--build", "make\n\tall", "--directory", "a\tb")
    before = shop.run()
    assert before is not None
    sent = {**form(shop.desk.get("/apps/shop/settings").text), "start": "command", "access": "private"}
    assert sent["command"] == command.replace("\n", "\r\n")
    ok(shop.repo, "app", "run", "--install", "npm ci")  # by another user, since the form was shown
    shop.desk.send("/apps/shop/run", **{**sent, "idle": "1h"})
    assert shop.run() == replace(before, install="npm ci", idle_ms=3_600_000)
    shop.desk.get("/apps/shop/settings")  # which takes the note
    shop.desk.send("/apps/shop/run", **{**sent, "command": sent["command"].replace("main.ts", "app.ts")})
    edited = replace(before, command=command.replace("main.ts", "app.ts"), install="npm ci", idle_ms=3_600_000)
    assert shop.run() == edited
    shop.desk.press("/apps/shop/settings", "Undo")
    assert shop.run() == replace(edited, command=command)
    shop.desk.send("/apps/shop/run", **{**sent, "start": "repository"})
    assert shop.run() == replace(edited, command="", from_repository=True)
    sent = {**form(shop.desk.get("/apps/shop/settings").text), "start": "command", "access": "private"}
    assert shop.desk.send("/apps/shop/run", **sent).status == 400  # which command, is not said
    shop.desk.send("/apps/shop/run", **{**sent, "command": "node app.js"})
    assert shop.run() == replace(edited, command="node app.js")


def test_a_running_app_serves_the_push_that_is_deployed_again(shop: Shop) -> None:
    with Registry.open(shop.home) as registry:
        deployed(registry, timeline_of(registry, b"login"), DeploymentState.BUILDING, "", "")
    assert "URL: done serves this push" in plain(shop.desk.get(f"/timelines/{shop.timelines['login']}").text).replace(
        " :", ":"
    )


def test_a_read_only_session_sees_apps_and_opens_or_changes_none(shop: Shop) -> None:
    reader = Visitor(shop.desk.visitor.base)
    reader.log_in(token(shop.repo, "--admin", "--read-only"))
    for path in ("/apps/shop", *(f"/timelines/{shop.timelines['login']}{tab}" for tab in ("", "/deploys", "/logs"))):
        text = reader.get(path).text
        assert "login" in text
        assert "/open-preview" not in text, path
        assert not re.search(r'action="/timelines/[^"]*/app/', text), path
        assert "4711" not in text
    assert 'action="/apps/shop/run"' not in reader.get("/apps/shop/settings").text


@contextmanager
def traced(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Visitor, list[str]]]:
    """Somebody at a dashboard in this process, and the statements that it sends to the registry, with their values."""
    statements: list[str] = []
    connect = sqlite3.connect

    def connected(*place: Any, **options: Any) -> sqlite3.Connection:
        made: sqlite3.Connection = connect(*place, **options)
        made.set_trace_callback(statements.append)
        return made

    monkeypatch.setattr(sqlite3, "connect", connected)
    server = RunningServer(home, Options(port=0, beside=True), lambda *_, **__: None, lambda: None, site=Dashboard)
    server.start()
    try:
        visitor = Visitor(server.options.url)
        assert visitor.log_in(code(Path(home.path))).status == 303
        yield visitor, statements
    finally:
        server.stop()


def test_a_page_of_many_timelines_reads_only_its_own_apps(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(120):
        git(shop.repo, "branch", f"many/{number:03}")
    ok(shop.repo, "reconcile")
    with traced(shop.home, monkeypatch) as (visitor, statements):
        statements.clear()
        text = visitor.get("/apps/shop?q=many").text
        asked = {each for each in statements if "hosted_app" in each}
    assert text.count("sleeping") == 100
    assert asked
    with Registry.open(shop.home) as registry:
        plans = {each: [str(row[3]) for row in registry.rows(f"explain query plan {each}")] for each in asked}
    assert not {each for each, plan in plans.items() if any("SCAN hosted_app" in step for step in plan)}, plans
