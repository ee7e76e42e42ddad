"""What pre-deploy commands did, in the dashboard: their state, their logs piece by piece, and running one again."""

from __future__ import annotations

import html
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from connect_world import Server, token
from dashboard_world import Visitor, visited
from support import events, ok, outside, provisioner, shop, statuses, until

from provisioner.connect.server.runner import DRAIN_SECONDS
from provisioner.dashboard.web.background_tasks import AT_ONCE, BackgroundTasks
from provisioner.dashboard.web.sessions import LoginSessions
from provisioner.operations.proposal import ProgressReporter, Proposal
from provisioner.system.home import Home

LINES = 100_000


@pytest.fixture
def world(home: Path, tmp_path: Path) -> Iterator[tuple[Server, Visitor, Path]]:
    repo = shop(tmp_path / "shop", "login")
    with visited(home) as (server, visitor):
        yield server, visitor, repo


def page_of(visitor: Visitor, branch: str) -> str:
    """The page of a branch's timeline."""
    found = re.search(r'href="(/timelines/[^"]+)"', visitor.get(f"/apps/shop?q={branch}").text)
    assert found is not None
    return found[1]


def runs(visitor: Visitor, page: str) -> list[str]:
    return re.findall(rf'href="({page}/runs/[^"]+)"', visitor.get(page).text)


def log(visitor: Visitor, page: str) -> str:
    found = re.search(r"<pre[^>]*>(.*?)</pre>", visitor.get(page).text, re.DOTALL)
    return html.unescape(found[1]) if found else ""


def test_what_failed_is_shown_with_its_log_and_run_again(
    world: tuple[Server, Visitor, Path], home: Path, tmp_path: Path
) -> None:
    _, visitor, repo = world
    mended = tmp_path / "mended"
    command = f"printf '\\033[31mred\\033[0m\\tx\\033]0;title\\007<b>bold</b>\\n'; test -e {mended}"
    assert provisioner(repo, "app", "set", "--pre-deploy", command).returncode == 1
    page = page_of(visitor, "login")
    text = visitor.get(page).text
    assert "it ended with exit code 1" in text
    assert "pre-deploy failed" in visitor.get("/apps/shop").text
    (run,) = runs(visitor, page)
    shown = visitor.get(run).text
    assert log(visitor, run) == "red     x\\x1b]0;title\\x07<b>bold</b>\n"
    assert "<b>bold" not in shown
    assert f'action="{page}/fix"' in shown
    mended.touch()
    assert visitor.post(f"{page}/fix", {"csrf": visitor.csrf}, prefer="").location == page
    until(lambda: len(runs(visitor, page)) == 2 and ">succeeded<" in visitor.get(page).text)
    assert f'action="{page}/fix"' not in visitor.get(page).text
    assert "login link" in events(home, "timeline.fix")
    assert statuses(repo)["git-branch/login"] == "connected"


def test_a_long_log_is_read_piece_by_piece_and_no_line_is_lost(world: tuple[Server, Visitor, Path]) -> None:
    _, visitor, repo = world
    ok(repo, "app", "set", "--pre-deploy", f"seq 1 {LINES}; printf '%070000d' 0 | tr 0 '<'")
    (run,) = runs(visitor, page_of(visitor, "login"))
    pieces = []
    path = run
    while path:
        answer = visitor.get(path)
        assert len(answer.text) < 600_000
        pieces.append(log(visitor, path))
        older = re.search(r'href="(\?before=\d+)">Older', answer.text)
        path = run + html.unescape(older[1]) if older else ""
    whole = "".join(reversed(pieces))
    assert whole.split("\n")[:LINES] == [str(number) for number in range(1, LINES + 1)]
    forwards = []
    path = f"{run}?before=1000"
    while path:
        forwards.append(log(visitor, path))
        newer = re.search(r'href="(\?before=\d+)">Newer', visitor.get(path).text)
        path = run + html.unescape(newer[1]) if newer else ""
    assert "".join(forwards).split("\n")[:LINES] == whole.split("\n")[:LINES]
    for strange in ("before=-1", "before=x", "before=99999999999", "before=0"):
        assert visitor.get(f"{run}?{strange}").status == 200


def test_what_a_command_prints_of_secrets_is_hidden(world: tuple[Server, Visitor, Path]) -> None:
    _, visitor, repo = world
    made = token(repo, "--app", "shop")
    ok(repo, "var", "set", "--secret", "PASS=s3cret-(value)", "--context", "development,production")
    command = f"echo $PASS $DENO_KV_ACCESS_TOKEN {made} kept; exit 1"
    assert provisioner(repo, "app", "set", "--pre-deploy", command).returncode == 1
    page = page_of(visitor, "login")
    (run,) = runs(visitor, page)
    assert re.fullmatch(r"•••( •••)+ kept\n", log(visitor, run))
    for path in (page, run):
        text = html.unescape(visitor.get(path).text)
        assert "s3cret-(value)" not in text
        assert made not in re.sub(r'<code class="command">.*?</code>', "", text, flags=re.DOTALL)


def test_the_stream_of_a_run_tells_of_what_it_prints(world: tuple[Server, Visitor, Path], tmp_path: Path) -> None:
    server, visitor, repo = world
    go_on = tmp_path / "go-on"
    page = page_of(visitor, "login")
    command = f"test -e {go_on} || exit 1; echo begun; until test -e {go_on}.more; do sleep 0.1; done; echo more"
    command += f"; until test -e {go_on}.end; do sleep 0.1; done"
    assert provisioner(repo, "app", "set", "--pre-deploy", command).returncode == 1
    go_on.touch()
    visitor.post(f"{page}/fix", {"csrf": visitor.csrf}, prefer="")
    until(lambda: len(runs(visitor, page)) == 2)
    run = runs(visitor, page)[0]
    until(lambda: "begun" in log(visitor, run))
    assert f'data-events="{run}/events"' in visitor.get(run).text
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    stream = urllib3.request("GET", f"{visitor.site}{run}/events", headers={"cookie": cookie}, preload_content=False)
    assert stream.read(5) == b"retry"
    (go_on.parent / "go-on.more").touch()
    text = b""

    def told() -> bool:
        nonlocal text
        text += stream.read1(100)
        return b"event: changed" in text

    until(told)
    stream.close()
    until(lambda: "more" in log(visitor, run))
    (go_on.parent / "go-on.end").touch()
    until(lambda: ">succeeded<" in visitor.get(run).text)
    assert 'data-events="/events"' in visitor.get(run).text
    assert urllib3.request("GET", f"{server.base}{run}/events").status == 401
    assert visitor.get(f"{page}/runs/..%2f..%2fserver").status == 404
    assert visitor.get(f"{page}/runs/none").status == 404


def test_the_list_of_timelines_says_what_the_command_made_of_each(world: tuple[Server, Visitor, Path]) -> None:
    _, visitor, repo = world
    ok(repo, "app", "set", "--pre-deploy", "echo well")
    assert "pre-deploy" not in visitor.get("/apps/shop").text
    assert provisioner(repo, "app", "set", "--pre-deploy", '[ "$DENO_TIMELINE" != git-branch/login ]').returncode == 0
    ok(repo, "app", "set", "--no-pre-deploy")
    assert provisioner(repo, "app", "set", "--pre-deploy", "exit 3").returncode == 0
    assert "pre-deploy" not in visitor.get("/apps/shop").text


def test_no_note_error_or_entry_of_the_audit_log_has_a_secret_that_a_command_printed(
    world: tuple[Server, Visitor, Path], tmp_path: Path
) -> None:
    server, visitor, repo = world
    reader = Visitor(server.base)
    assert reader.log_in(token(repo, "--admin", "--read-only")).status == 303
    secret = "s3cret-" + "x" * 400  # as long as a signed token
    ok(repo, "var", "set", "--secret", f"PASS={secret}")
    go_on, end = tmp_path / "go-on", tmp_path / "end"
    command = (
        f"test -e {go_on} || exit 3; echo {'before ' * 9000}$PASS; until test -e {end}; do sleep 0.1; done; exit 4"
    )
    assert provisioner(repo, "app", "set", "--pre-deploy", command).returncode == 1
    go_on.touch()
    page = page_of(visitor, "login")
    database = re.findall(r'href="(/databases/[^"]+)"', visitor.get(page).text)[0]
    assert visitor.post(f"{page}/fix", {"csrf": visitor.csrf}, prefer="").status == 303
    until(lambda: "<code>before" in reader.get("/").text)
    seen = [reader.get("/").text]
    end.touch()
    until(lambda: "being applied" not in reader.get("/").text)
    assert provisioner(repo, "app", "set", "--no-pre-deploy").returncode == 0
    ok(repo, "assign", "default", "--scrub", "echo $PASS; exit 5")
    fork = {"csrf": visitor.csrf, "source": "production", "answer": "yes"}
    seen.append(visitor.post(f"{database}/fork", fork).text)
    assert "exit code 5" in seen[-1]
    for path in ("/", page, database, "/apps/shop", "/instances/default", "/activity"):
        seen += [each.get(path).text for each in (visitor, reader)]
    assert any("exit code 4" in text for text in seen)
    assert [text for text in seen if "s3cret" in text or "x" * 20 in text] == []


def test_who_stops_the_server_does_not_wait_for_a_command_that_hangs(
    world: tuple[Server, Visitor, Path], tmp_path: Path
) -> None:
    server, visitor, repo = world
    go_on, begun = tmp_path / "go-on", outside(tmp_path) / "begun"
    command = f"test -e {go_on} || exit 3; touch {begun}; exec sleep 600"
    allowed = ("--allow-write", outside(tmp_path))
    assert provisioner(repo, "app", "set", *allowed, "--pre-deploy", command).returncode == 1
    go_on.touch()
    page = page_of(visitor, "login")
    assert visitor.post(f"{page}/fix", {"csrf": visitor.csrf}, prefer="").status == 303
    until(begun.exists)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < DRAIN_SECONDS / 2
    assert "waiting for a change" in server.log.read_text()
    assert "cut off" not in server.log.read_text()


def test_a_change_waits_only_while_many_others_are_being_made_and_says_so(home: Path, tmp_path: Path) -> None:
    shop(tmp_path / "shop")
    works = BackgroundTasks(Home(str(home)), lambda: None)
    session = LoginSessions(Home(str(home))).begin("somebody", None, False, 0)
    gate = threading.Event()

    def hangs(_: ProgressReporter) -> Iterator[str]:
        gate.wait(60)
        yield "done"

    begun = [works.begin(session, "change", 0, lambda *_: Proposal(hangs), lambda _: None) for _ in range(AT_ONCE + 1)]
    until(lambda: sum(work.waits for work in begun) == 1)
    gate.set()
    assert all(work.over.wait(60) for work in begun)
    assert [work.lines for work in begun] == [["done"]] * (AT_ONCE + 1)
    works.stop()
    late = works.begin(session, "change", 0, lambda *_: Proposal(hangs), lambda _: None)
    assert late.over.wait(60)
    assert "shutting down" in str(late.trouble)
