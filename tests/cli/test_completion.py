"""Tab completes commands, options, and names; in real shells, without loading commands or changing anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import IN_CI, git, ok, provisioner, shop
from terminal_session import terminal

from provisioner.cli.completion import answer
from provisioner.cli.completion.command_tree import build

pytestmark = pytest.mark.slow

BREAKS = " \t\n\"'@><=;|&(:"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shop(tmp_path / "shop", "login", "feature/pay")


def words(repo: Path, typed: str) -> list[str]:
    """What fish is told; with the descriptions cut off."""
    line = answer.split(f"provisioner {typed}")
    return [line.partition("\t")[0] for line in ok(repo, "__complete", "fish", *line).splitlines()]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("dat", ["database"]),
        ("database sn", ["snapshot"]),
        ("database fork lo", ["login"]),
        ("database fork login fe", ["feature/pay"]),
        ("database fork git-branch/l", ["git-branch/login"]),
        ("status --branch feature/", ["feature/pay"]),
        ("status --branch=lo", ["--branch=login"]),
        ("status --arch", ["--archived"]),
        ("status shop:lo", ["shop:login"]),
        ("app show ", ["shop"]),
        ("hooks status --app s", ["shop"]),
        ("assign de", ["default"]),
        ("assign default ", ["shop"]),
        ("assign default --new-branch lo", ["login"]),
        ("env --format do", ["dotenv", "docker"]),
        ("var unset NA", ["NAME"]),
        ("database restore login be", ["before"]),
        ("database restore --branch login be", ["before"]),
        ("database diff login@{be", ["login@{before}"]),
        ("database recover ", []),
        ("exec --branch login -- ", [":files"]),
        ("database dump ./", [":files"]),
        ("--co", ["--color"]),
        ("-q app sh", ["show"]),
        ("no such command", []),
    ],
)
def test_a_word_is_completed_by_what_there_is(repo: Path, typed: str, expected: list[str]) -> None:
    ok(repo, "var", "set", "NAME=value")
    ok(repo, "database", "snapshot", "create", "login", "--label", "before")
    assert words(repo, typed) == expected


def test_recover_and_purge_offer_only_what_is_archived(repo: Path) -> None:
    ok(repo, "database", "archive", "login", "--yes")
    assert words(repo, "database recover ") == words(repo, "database purge ") == ["login"]


def test_no_value_and_no_secret_is_offered(repo: Path) -> None:
    ok(repo, "var", "set", "NAME=hush-hush", "--secret")
    made = ok(repo, "token", "create", "--branch", "login").strip()
    said = words(repo, "var set ") + words(repo, "var unset ") + words(repo, "token revoke ")
    assert "NAME" in said
    assert not [word for word in said if "hush" in word or made.rpartition("_")[2] in word]


def test_outside_a_repository_and_without_a_home_it_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    (tmp_path / "file").write_text("")
    for typed in ("database fork ", "app show ", "status --branch x", "database restore x "):
        done = provisioner(tmp_path, "__complete", "bash", f"provisioner {typed}", BREAKS)
        assert (done.returncode, done.stderr) == (0, "")


def test_it_reads_an_older_or_damaged_registry_without_a_change_and_without_a_word(repo: Path, home: Path) -> None:
    (home / "registry.db").write_bytes(b"no database at all" * 100)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in home.iterdir())
    done = provisioner(repo, "__complete", "bash", "provisioner app show ", BREAKS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in home.iterdir()) == before


def test_names_are_limited_to_200(repo: Path) -> None:
    head = git(repo, "rev-parse", "HEAD").stdout.strip()
    git(repo, "update-ref", "--stdin", stdin="".join(f"create refs/heads/b{n:03} {head}\n" for n in range(300)))
    assert len(words(repo, "status --branch ")) == len(words(repo, "database fork ")) == 200


def test_once_the_tree_is_cached_no_command_is_loaded(repo: Path) -> None:
    words(repo, "app ")
    program = (
        "import sys; sys.argv = ['provisioner', '__complete', 'fish', 'provisioner', 'status', '--app', ''];"
        "from provisioner.__main__ import main; main(); print(sorted({'click', 'sqlite3', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=repo, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["shop\t", "[]"]


def test_the_tree_has_every_command_and_says_what_each_is_for() -> None:
    tree = build()
    assert {"database", "exec", "completion"} <= tree["commands"].keys()
    assert tree["commands"]["database"]["commands"]["fork"]["summary"]
    assert tree["commands"]["database"]["commands"]["fork"]["arguments"] == [["FROM"], ["TO"]]


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        if IN_CI:
            pytest.fail(f"CI has to have {name}")
        pytest.skip(f"there is no {name}")
    return found


@pytest.mark.parametrize(("typed", "becomes"), [("fork lo\t", "fork login"), ("diff shop:lo\t", "diff shop:login")])
def test_tab_completes_in_bash(repo: Path, typed: str, becomes: str) -> None:
    with terminal(repo, shell("bash"), "--norc", "--noprofile", "-i", add={"PS1": "$ "}) as session:
        session.type('bind "set enable-bracketed-paste off"; eval "$(provisioner completion bash)"; echo rea""dy\n')
        session.until("ready\n")
        session.type(f"provisioner database {typed}")
        session.until(f"database {becomes}")


def test_tab_completes_in_zsh(repo: Path, tmp_path: Path) -> None:
    with terminal(repo, shell("zsh"), "-f", "-i", add={"PS1": "$ ", "ZDOTDIR": str(tmp_path)}) as session:
        session.type('autoload -U compinit; compinit -u -D; eval "$(provisioner completion zsh)"; echo rea""dy\n')
        session.until("ready\n")
        session.type("provisioner database fork lo\t")
        session.until("fork lo.*gin")


def test_fish_completes(repo: Path) -> None:
    script = "provisioner completion fish | source; complete -C 'provisioner database fork lo'"
    done = subprocess.run([shell("fish"), "--no-config", "-c", script], cwd=repo, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["login"], "")
    assert os.environ["XDG_CACHE_HOME"]
