"""Hooks never hurt: they go in and out without a trace, keep what was there, and never fail git."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import sys
import threading
import time
from pathlib import Path

import pytest
from support import Done, bare, branches, connected, daemon, git, ok, repository, run, until

from provisioner.handover import ask_daemon

Snapshot = dict[str, tuple[int, bytes]]


def snapshot(directory: Path) -> Snapshot:
    """Every file's mode and bytes; of a link where it points."""
    found = {}
    for path in directory.iterdir() if directory.exists() else ():
        text = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
        found[path.name] = (stat.S_IMODE(path.lstat().st_mode), text)
    return found


def install(place: Path, *options: str) -> None:
    ok(place, "init", "--grace", "0s", *options)
    states = json.loads(ok(place, "hooks", "status", "--json"))
    assert {row["state"] for row in states} == {"installed"}


def uninstall(place: Path) -> None:
    ok(place, "hooks", "uninstall")


def write(path: Path, text: str, mode: int = 0o755) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


# places


def plain(tmp_path: Path) -> tuple[Path, Path]:
    clone = repository(tmp_path / "shop")
    return clone, clone / ".git"


def linked_worktree(tmp_path: Path) -> tuple[Path, Path]:
    clone = repository(tmp_path / "shop")
    git(clone, "worktree", "add", "-q", "-b", "linked", tmp_path / "linked tree")
    return tmp_path / "linked tree", clone / ".git"


def submodule(tmp_path: Path) -> tuple[Path, Path]:
    repository(tmp_path / "part")
    outer = repository(tmp_path / "outer")
    git(outer, "submodule", "add", "-q", tmp_path / "part", "inner")
    return outer / "inner", outer / ".git" / "modules" / "inner"


def odd_path(tmp_path: Path) -> tuple[Path, Path]:
    clone = repository(tmp_path / 'it\'s a "shop" $HOME')
    return clone, clone / ".git"


@pytest.mark.parametrize("make", [plain, linked_worktree, submodule, odd_path], ids=lambda make: str(make.__name__))
def test_hooks_go_into_a_checkout_work_and_leave_no_trace(tmp_path: Path, make: object) -> None:
    place, git_dir = make(tmp_path)  # type: ignore[operator]
    before = snapshot(git_dir / "hooks")
    install(place)
    assert {"post-checkout", "reference-transaction"} <= snapshot(git_dir / "hooks").keys()
    git(place, "switch", "-q", "-c", "feature/a")
    git(place, "branch", "feature.a")
    until(lambda: connected(place) == branches(place))
    again = snapshot(git_dir / "hooks")
    ok(place, "hooks", "install")
    assert snapshot(git_dir / "hooks") == again
    uninstall(place)
    assert snapshot(git_dir / "hooks") == before


def test_a_bare_repository_gets_post_receive_and_never_reference_transaction(tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    hub = bare(tmp_path / "hub.git", clone)
    before = snapshot(hub / "hooks")
    install(hub)
    assert snapshot(hub / "hooks").keys() - before.keys() == {"post-receive"}
    git(clone, "push", "-q", "hub", "main:login")
    assert connected(hub) == {"main", "login"}
    uninstall(hub)
    assert snapshot(hub / "hooks") == before


def test_one_hooks_directory_serves_two_repositories(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    write(shared / "post-checkout", f"#!/bin/sh\necho ran >> '{tmp_path}/ran'\n")
    before = snapshot(shared)
    places = [repository(tmp_path / "one"), repository(tmp_path / "two"), repository(tmp_path / "three")]
    for place in places:
        git(place, "config", "core.hooksPath", shared)
    one, two, three = places
    install(one)
    install(two)

    def follows(place: Path) -> bool:
        rows = json.loads(ok(place, "status", "--json"))
        return {row["branch"] for row in rows if row["status"] == "connected"} == branches(place)

    git(three, "switch", "-q", "-c", "nobody-cares")
    for place in (one, two):
        git(place, "switch", "-q", "-c", f"of-{place.name}")
        until(lambda place=place: follows(place))  # type: ignore[misc]
    uninstall(one)
    git(two, "branch", "still")
    until(lambda: follows(two))
    assert (tmp_path / "ran").read_text() == "ran\n" * 3
    ok(one, "app", "remove", "--yes")
    uninstall(two)
    assert snapshot(shared) == before


HUSKY = """\
#!/usr/bin/env sh
[ "$HUSKY" = "2" ] && set -x
n=$(basename "$0")
s=$(dirname "$(dirname "$0")")/$n
[ ! -f "$s" ] && exit 0
sh -e "$s" "$@"
c=$?
[ $c != 0 ] && echo "husky - $n script failed (code $c)"
exit $c
"""


def test_husky_goes_on_working(tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    inner = clone / ".husky" / "_"
    write(inner / "h", HUSKY, 0o644)
    for name in ("post-checkout", "post-merge", "pre-commit"):
        write(inner / name, '#!/usr/bin/env sh\n. "$(dirname "$0")/h"')
    write(clone / ".husky" / "post-checkout", f'echo "$3" >> "{tmp_path}/ran"\nexit 4\n', 0o644)
    git(clone, "config", "core.hooksPath", ".husky/_")
    before = snapshot(inner)
    install(clone)
    done = git(clone, "switch", "-q", "-c", "feature", check=False)
    assert done.returncode != 0
    assert "husky - post-checkout script failed (code 4)" in done.stdout + done.stderr
    assert (tmp_path / "ran").read_text() == "1\n"
    until(lambda: connected(clone) == branches(clone))
    uninstall(clone)
    assert snapshot(inner) == before


# hooks that are there already: each says what it was given, and fails

TELL = """{ printf '%s|' "$0" "$@"; cat; } >> "$RECORD"\n"""
FOUND = {
    "sh": "#!/bin/sh\n" + TELL + "exit 5\n",
    "sh without a last newline": "#!/bin/sh -e\n" + TELL + "exit 5",
    "lefthook": (
        '#!/bin/sh\n\nif [ "$LEFTHOOK_VERBOSE" = "1" ]; then\n  set -x\nfi\n\nif [ "$LEFTHOOK" = "0" ]; then\n'
        "  exit 0\nfi\n\ncall_lefthook()\n{\n  " + TELL + '  return 5\n}\n\ncall_lefthook run "post-checkout" "$@"\n'
    ),
    "pre-commit": (
        "#!/usr/bin/env bash\n# File generated by pre-commit: https://pre-commit.com\nset -euo pipefail\n"
        'HERE="$(cd "$(dirname "$0")" && pwd)"\nARGS=(hook-impl --config=.pre-commit-config.yaml)\n'
        'ARGS+=(--hook-dir "$HERE" -- "$@")\n' + TELL + 'printf "%s " "${ARGS[@]}" >> "$RECORD"\nexit 5\n'
    ),
    "python": (
        f"#!{sys.executable}\nimport os, sys\nwith open(os.environ['RECORD'], 'a') as file:\n"
        "    file.write('|'.join(sys.argv[1:]) + '|' + sys.stdin.read())\nsys.exit(5)\n"
    ),
}


def use(hook: Path, given: str, record: Path, *arguments: str) -> tuple[int, bytes]:
    """Run a hook as git does: its exit code and what it says it was given."""
    record.unlink(missing_ok=True)
    done = run(hook.parent.parent, hook, *arguments, stdin=given, add={"RECORD": str(record), "GIT_DIR": "."})
    return done.returncode, record.read_bytes()


@pytest.mark.parametrize("kind", FOUND)
def test_a_post_receive_that_was_there_gets_the_same_and_decides_as_before(tmp_path: Path, kind: str) -> None:
    clone = repository(tmp_path / "shop")
    hub = bare(tmp_path / "hub.git", clone)
    hook, record = hub / "hooks" / "post-receive", tmp_path / "record"
    write(hook, FOUND[kind], 0o750)
    before = snapshot(hub / "hooks")
    old, new = "0" * 40, git(clone, "rev-parse", "main").stdout.strip()
    given = f"{old} {new} refs/heads/login\n{old} {new} refs/heads/it's $HOME `x` \\n 修正\n"
    expected = use(hook, given, record, "an argument", "")
    assert expected[0] == 5
    install(hub)
    found = use(hook, given, record, "an argument", "")
    assert (found[0], found[1].replace(b".before-provisioner", b"")) == expected
    git(clone, "push", "-q", "hub", "main:login", add={"RECORD": str(record)})
    assert b"refs/heads/login" in record.read_bytes()
    assert connected(hub) == {"main", "login"}
    uninstall(hub)
    assert snapshot(hub / "hooks") == before


@pytest.mark.parametrize("kind", FOUND)
def test_a_post_checkout_that_was_there_decides_as_before(tmp_path: Path, kind: str) -> None:
    clone = repository(tmp_path / "shop")
    hook, record = clone / ".git" / "hooks" / "post-checkout", tmp_path / "record"
    write(hook, FOUND[kind], 0o755)
    before = snapshot(hook.parent)

    def switch(branch: str) -> tuple[int, bytes]:
        record.unlink(missing_ok=True)
        done = git(clone, "switch", "-q", "-c", branch, check=False, add={"RECORD": str(record)})
        return done.returncode, record.read_bytes()

    expected = switch("before")
    assert expected[0] != 0
    install(clone)
    code, told = switch("after")
    assert (code, told.replace(b".before-provisioner", b"")) == expected
    until(lambda: connected(clone) == branches(clone))
    uninstall(clone)
    assert snapshot(hook.parent) == before


def test_a_hook_that_is_a_link_is_kept_as_a_link(tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    hook, record = clone / ".git" / "hooks" / "post-checkout", tmp_path / "record"
    write(tmp_path / "elsewhere", FOUND["sh"])
    hook.symlink_to("../../../elsewhere")
    before = snapshot(hook.parent)
    install(clone)
    done = git(clone, "switch", "-q", "-c", "one", check=False, add={"RECORD": str(record)})
    assert done.returncode != 0
    assert record.exists()
    until(lambda: connected(clone) == branches(clone))
    uninstall(clone)
    assert snapshot(hook.parent) == before
    assert (tmp_path / "elsewhere").read_text() == FOUND["sh"]


@pytest.mark.parametrize("name", ["post-checkout", "post-receive"])
def test_a_hook_that_is_not_executable_is_kept_and_not_run(tmp_path: Path, name: str) -> None:
    clone = repository(tmp_path / "shop")
    hub = bare(tmp_path / "hub.git", clone)
    place, hooks = (clone, clone / ".git" / "hooks") if name == "post-checkout" else (hub, hub / "hooks")
    write(hooks / name, f"#!/bin/sh\ntouch '{tmp_path}/ran'\nexit 5\n", 0o640)
    before = snapshot(hooks)
    install(place)
    git(clone, "switch", "-q", "-c", "one")
    git(clone, "push", "-q", "hub", "one")
    until(lambda: connected(place) == {"main", "one"})
    assert not (tmp_path / "ran").exists()
    uninstall(place)
    assert snapshot(hooks) == before


@pytest.mark.parametrize("kind", ["sh", "python"])
def test_a_reference_transaction_that_was_there_still_refuses(tmp_path: Path, kind: str) -> None:
    clone = repository(tmp_path / "shop")
    hook = clone / ".git" / "hooks" / "reference-transaction"
    text = {
        "sh": '#!/bin/sh\n[ "$1" = prepared ] || exit 0\n! grep -q refs/heads/forbidden\n',
        "python": f"#!{sys.executable}\nimport sys\n"
        "sys.exit(sys.argv[1] == 'prepared' and 'refs/heads/forbidden' in sys.stdin.read())\n",
    }[kind]
    write(hook, text)
    before = snapshot(hook.parent)
    install(clone)
    assert git(clone, "branch", "forbidden", check=False).returncode != 0
    git(clone, "branch", "allowed")
    until(lambda: connected(clone) == {"main", "allowed"})
    assert branches(clone) == {"main", "allowed"}
    uninstall(clone)
    assert snapshot(hook.parent) == before


# never in the way


def test_a_copy_of_a_branch_that_git_runs_no_hook_for_is_provisioned_at_its_first_use(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop", "a")
    install(shop)
    git(shop, "branch", "-c", "a", "b")
    assert connected(shop) == {"main", "a"}, "git runs a hook by now: docs/hooks.md says that it does not"
    assert ok(shop, "exec", "--branch", "b", "--", "printenv", "DENO_TIMELINE") == "git-branch/b\n"
    assert connected(shop) == {"main", "a", "b"}


def test_provisioner_skip_switches_the_hooks_off(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    hub = bare(tmp_path / "hub.git", clone)
    install(clone)
    install(hub)
    for wake in (home / "inbox").iterdir():
        wake.unlink()
    skip = {"PROVISIONER_SKIP": "1"}
    git(clone, "switch", "-q", "-c", "one", add=skip)
    pushed = git(clone, "push", "hub", "one", add=skip)
    assert "provisioner: " not in pushed.stderr
    assert os.listdir(home / "inbox") == []
    assert connected(clone) == {"main"}


def without_provisioner(hooks: Path) -> None:
    """What is left of the hooks when the virtual environment has been removed."""
    for name in ("post-checkout", "reference-transaction", "post-receive"):
        if (hooks / name).exists():
            text = (hooks / name).read_text()
            text, found = re.subn("^(provisioner_python)=.*$", r"\1='/nowhere/bin/python'", text, flags=re.MULTILINE)
            assert found == 1
            (hooks / name).write_text(text)


def test_hooks_say_once_a_day_that_provisioner_has_been_uninstalled(tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    hub = bare(tmp_path / "hub.git", clone)
    write(hub / "hooks" / "post-receive", FOUND["sh"])
    install(clone)
    install(hub)
    for place in (clone / ".git", hub):
        without_provisioner(place / "hooks")
    said = []
    for arguments in (
        ["switch", "-q", "-c", "one"],
        ["branch", "two"],
        ["push", "-q", "hub", "one"],
        ["branch", "three"],
    ):
        done = git(clone, *arguments, add={"RECORD": str(tmp_path / "record")})
        assert (done.returncode, done.stdout) == (0, "")
        said.append(done.stderr.count("the installation that this hook runs is gone"))
    assert said == [1, 0, 1, 0]  # one for each repository
    assert "refs/heads/one" in (tmp_path / "record").read_text()
    stamp = clone / ".git" / "provisioner" / "said-gone"
    os.utime(stamp, (time.time() - 2 * 86400,) * 2)
    assert "provisioner hooks install" in git(clone, "branch", "four").stderr
    assert git(clone, "branch", "five").stderr == ""
    install(clone)
    assert not stamp.exists()


@pytest.mark.parametrize("missing", ["python", "handover"])
def test_a_hook_whose_installation_is_gone_fails_no_git_command(tmp_path: Path, missing: str) -> None:
    clone = repository(tmp_path / "shop")
    install(clone)
    for hook in (clone / ".git" / "hooks").iterdir():
        text = hook.read_text()
        hook.write_text(re.sub(f"^(provisioner_{missing})=.*$", r"\\1='/nowhere/x'", text, flags=re.MULTILINE))
    (clone / ".git" / "provisioner").chmod(0o500)
    for arguments in (
        ["switch", "-q", "-c", "one"],
        ["branch", "-m", "one", "two"],
        ["branch", "-D", "main"],
        ["gc", "-q"],
    ):
        assert git(clone, *arguments).returncode == 0


def test_hooks_are_silent_when_the_home_has_been_removed(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    install(clone)
    home.rename(tmp_path / "gone")
    done = git(clone, "switch", "-q", "-c", "one")
    assert (done.stdout, done.stderr) == ("", "")


def scrubbed(place: Path, *command: str | Path) -> Done:
    return run(place, "env", "-i", f"PATH={os.environ['PATH']}", *command, check=True)


def test_hooks_know_their_home_without_an_environment(tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    hub = bare(tmp_path / "hub.git", clone)
    install(hub)
    pushed = scrubbed(clone, "git", "push", "hub", "main:login")
    assert "git-branch/login connected" in pushed.stderr
    assert connected(hub) == {"main", "login"}
    ok(hub, "app", "remove", "--yes")
    install(clone)
    scrubbed(clone, "git", "branch", "one")
    until(lambda: {"main", "one"} <= connected(clone))


def test_what_git_exports_to_hooks_misleads_nobody(home: Path, tmp_path: Path) -> None:
    clone = repository(tmp_path / "shop")
    install(clone)
    other = repository(tmp_path / "other", "not-this")
    index = {"GIT_INDEX_FILE": str(tmp_path / "no-index"), "GIT_PREFIX": "x/", "GIT_LITERAL_PATHSPECS": "1"}
    git(tmp_path, "branch", "one", add={"GIT_DIR": str(clone / ".git"), **index})
    until(lambda: connected(clone) == {"main", "one"})
    git(other, "--git-dir", clone / ".git", "--work-tree", other, "branch", "two")
    until(lambda: connected(clone) == {"main", "one", "two"})
    misled = {"GIT_DIR": str(other / ".git"), "GIT_WORK_TREE": str(other), "GIT_COMMON_DIR": str(other / ".git")}
    ok(clone, "reconcile", add=misled)
    ok(clone, "hooks", "install", add=misled)
    assert connected(clone) == branches(clone)
    assert "post-checkout" not in snapshot(other / ".git" / "hooks")


@pytest.mark.parametrize("with_daemon", [False, True], ids=["without a daemon", "with a daemon"])
def test_a_push_is_told_one_line_per_timeline(home: Path, tmp_path: Path, with_daemon: bool) -> None:
    clone = repository(tmp_path / "shop")
    hub = bare(tmp_path / "hub.git", clone)
    install(hub, "--name", "shop")

    def told(*refs: str) -> list[str]:
        lines = git(clone, "push", "hub", *refs).stderr.splitlines()
        return sorted(line.split("provisioner: ")[1].rstrip() for line in lines if "provisioner: " in line)

    def look() -> None:
        made = told("main:login", "main:修正", "main:refs/tags/v1")
        assert [line.split(" ")[:2] for line in made] == [
            ["git-branch/login", "connected"],
            ["git-branch/修正", "connected"],
        ]
        assert all(line.split(" ")[2].startswith("shop--") for line in made)
        assert [line.split(" ")[:2] for line in told(":login")] == [["git-branch/login", "archived"]]
        assert told("main:refs/tags/v2") == []

    if with_daemon:
        with daemon(home):
            look()
    else:
        look()


@pytest.mark.parametrize(("ending", "noted"), [(b"\0", False), (b"", True)])
def test_a_daemon_that_dies_in_the_middle_of_its_answer_is_noted(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], ending: bytes, noted: bool
) -> None:
    path = str(tmp_path / "daemon.sock")
    (tmp_path / "daemon").write_text(f"1 2 {path}\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                while connection.recv(100):
                    pass
                connection.sendall(b"a word\n" + ending)

        daemon = threading.Thread(target=answer)
        daemon.start()
        assert ask_daemon(str(tmp_path), "app", [b"0 main"])
        daemon.join()
    said = capfdbinary.readouterr().out
    assert said.startswith(b"a word\n")
    assert (b"provisioner status" in said) == noted
    assert b"\0" not in said
