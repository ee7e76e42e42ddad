"""`provisioner doctor`: what is wrong on this machine and how to mend it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator

import click

from provisioner.cli import view
from provisioner.cli.shared import json_option, print_json, the_home
from provisioner.config import Home
from provisioner.errors import ProvisionerError
from provisioner.git import hooks
from provisioner.git.refs import read_branches
from provisioner.git.worktree import find_checkout
from provisioner.model import App
from provisioner.registry.store import Registry
from provisioner.worker import daemon_runs

LOW_SPACE = 100 * 1024 * 1024

Finding = tuple[str, bool, str]
"""What was looked at, whether it is well, and a sentence."""


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Look at everything, change nothing. Exit code 1 where something is wrong."""
    findings = list(_findings(the_home()))
    if as_json:
        print_json([{"check": name, "ok": ok, "message": text} for name, ok, text in findings])
    else:
        for name, ok, text in findings:
            click.echo(f"{'ok   ' if ok else 'WRONG'} {name}: {text}")
    wrong = sum(not ok for _, ok, _ in findings)
    if wrong:
        raise ProvisionerError(f"{wrong} of {len(findings)} checks failed", "Each line above says how to mend it")


def _findings(home: Home) -> Iterator[Finding]:
    yield _git()
    if not os.path.isdir(home.path):
        yield "home", False, f"{home.path} does not exist. Run 'provisioner init' in a repository"
        return
    yield from _home(home)
    try:
        registry = Registry.open(home)
    except ProvisionerError as error:
        yield "registry", False, str(error)
        return
    with registry:
        yield _integrity(home)
        try:
            runs = daemon_runs(home)
        except ProvisionerError as error:
            yield "daemon", False, str(error)
            return
        text = "running" if runs else "not running: without it, hooks and 'provisioner reconcile' do the work"
        yield "daemon", True, text
        for app in registry.apps():
            yield from _app(registry, app, home, runs)


def _git() -> Finding:
    path = shutil.which("git")
    if path is None:
        return "git", False, "git is not installed. Install it"
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return "git", True, version


def _home(home: Home) -> Iterator[Finding]:
    mode = os.stat(home.path).st_mode & 0o777
    private = not mode & 0o077
    yield "home", private, home.path if private else f"{home.path} is open to others. Run: chmod 700 {home.path}"
    writable = os.access(home.path, os.W_OK | os.X_OK)
    yield "writable", writable, "yes" if writable else f"this user may not write to {home.path}. Change its owner"
    space = os.statvfs(home.path)
    free = space.f_bavail * space.f_frsize
    enough = free >= LOW_SPACE and (space.f_files == 0 or space.f_favail > 100)
    yield "space", enough, f"{free // 1_000_000} MB and {space.f_favail} inodes free{'' if enough else '. Free some'}"


def _integrity(home: Home) -> Finding:
    connection = sqlite3.connect(f"file:{home.registry}?mode=ro", uri=True)
    try:
        answer = connection.execute("pragma quick_check").fetchone()[0]
    except sqlite3.Error as error:
        answer = str(error)
    finally:
        connection.close()
    return "registry", answer == "ok", home.registry if answer == "ok" else f"{home.registry}: {answer}"


def _app(registry: Registry, app: App, home: Home, daemon: bool) -> Iterator[Finding]:
    name = f"app {app.slug}"
    try:
        branches = read_branches(app.git_dir)
    except ProvisionerError as error:
        yield name, False, str(error)
        return
    yield name, True, f"{len(branches)} branches in {os.fsdecode(app.git_dir)}"
    checkout = find_checkout(app.git_dir)
    if checkout is not None:
        found = hooks.status(checkout.common_dir, checkout.top, home.path)
        missing = [f"{hook.name} {hook.state}" for hook in found if hook.state is not hooks.State.INSTALLED]
        well = daemon or not missing
        yield (
            f"{name} hooks",
            well,
            ", ".join(missing) + ". Run 'provisioner hooks install'" if missing else "installed",
        )
    for document in view.databases(registry, app):
        if document["error"]:
            yield f"{name} {document['timeline']}", False, f"{document['error']}. Run 'provisioner database fix --all'"
