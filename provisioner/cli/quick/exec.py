"""`provisioner exec`: resolve, then become the command. Parsed by hand, because click starts slower than all of it."""

from __future__ import annotations

import errno
import os
import sys

from provisioner.core.connection import TimelineConnection, strays
from provisioner.core.errors import ProvisionerError, shortage
from provisioner.core.naming import shown
from provisioner.environment.resolve import Selectors, here, resolve
from provisioner.git.worktree import find_checkout
from provisioner.system.home import Home, home_directory

_OPTIONS = {
    "--app": "app",
    "--branch": "branch",
    "--timeline": "timeline",
    "--revision": "revision",
    "--instance": "instance",
    "--context": "context",
}


def launch(words: list[str]) -> None:
    """Run ``[SELECTORS] -- CMD ARG…``. Returns only where the words are not that: then click explains them."""
    parsed = _parse(words)
    if parsed is None:
        return
    selectors, command = parsed
    try:
        execute(selectors, command)
    except ProvisionerError as error:
        _tell(str(error))
        sys.exit(3 if error.exit_code == 1 else error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # nothing was started, whatever went wrong
        _tell(str(shortage(error) or _explained(error)))
        sys.exit(3)


def _explained(error: Exception) -> ProvisionerError:
    from provisioner.cli.unexpected import explained

    return explained(error, Home(home_directory(os.environ)), os.environ)


def _tell(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(shown(f"provisioner: {' '.join(text.splitlines())}") + "\n")


def execute(selectors: Selectors, command: list[str]) -> None:
    """Replace this process by `command` in the timeline's environment. Raises if the environment or the command fails."""
    _, environ = connected(selectors)
    try:
        os.execve(program(command[0], environ), command, environ)
    except OSError as error:
        raise cannot_run(command[0], error) from error


def connected(selectors: Selectors) -> tuple[TimelineConnection, dict[str, str]]:
    """The timeline's databases, and all of the environment of a command on it. Raises `NotResolved`."""
    environ = dict(os.environ)
    connection, values = resolved(selectors, environ)
    for name in strays(values):
        environ.pop(name, None)
    environ.update(values)
    return connection, environ


def resolved(selectors: Selectors, environ: dict[str, str]) -> tuple[TimelineConnection, dict[str, str]]:
    """The timeline's databases and their variables; files of `env --write` in this checkout are updated. Raises
    `NotResolved`."""
    home, directory = Home(home_directory(environ)), here()
    try:
        connection, values = resolve(home, selectors, directory, environ)
    except ProvisionerError:
        if selectors.of_the_checkout:
            _keep_env_files_up(home, directory, environ, None)
        raise
    if selectors.of_the_checkout:
        _keep_env_files_up(home, directory, environ, values)
    return connection, values


def cannot_run(name: str, error: OSError) -> ProvisionerError:
    """With the exit code that shells have for it."""
    failed = ProvisionerError(f"cannot run {name}: {error.strerror}")
    failed.exit_code = 127 if isinstance(error, FileNotFoundError) else 126
    return failed


def _keep_env_files_up(home: Home, directory: bytes, environ: dict[str, str], values: dict[str, str] | None) -> None:
    """Update the files of `env --write` on `exec` too, because another hook manager such as husky can replace the hooks."""
    checkout = find_checkout(directory)
    if checkout is None or not os.path.exists(os.path.join(checkout.common_dir, b"provisioner", b"env-files")):
        return
    from provisioner.environment.env_files import refresh

    for line in refresh(home, directory, environ, values):
        _tell(line)


def program(name: str, environ: dict[str, str]) -> str:
    """The program that `name` means, by execvp's rules; `os.execvp` itself imports `warnings` first. Raises OSError."""
    search = environ.get("PATH", os.defpath)
    if "/" in name:
        return name
    refused = ""
    for directory in search.split(":"):
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
        refused = refused or (path if os.path.isfile(path) else "")
    if not refused:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return refused


def _parse(words: list[str]) -> tuple[Selectors, list[str]] | None:
    parsed = selected(words, {})
    if parsed is None:
        return None
    selectors, rest = parsed
    command = rest[1:] if rest[:1] == ["--"] else rest
    return (selectors, command) if command else None


def selected(words: list[str], others: dict[str, str]) -> tuple[Selectors, list[str]] | None:
    """The selectors at the start of the words, and the words that follow them, from `--` or the first argument.

    `others` are further options with their values, which are changed to the given ones. None for any other
    option, and if a value is missing.
    """
    selectors = Selectors()
    index = 0
    while index < len(words) and words[index].startswith("-") and words[index] != "--":
        name, equals, value = words[index].partition("=")
        if name not in _OPTIONS and name not in others:
            return None
        if not equals:
            index += 1
            value = words[index] if index < len(words) else ""
        if not value:
            return None
        if name in others:
            others[name] = value
        else:
            setattr(selectors, _OPTIONS[name], value)
        index += 1
    return selectors, words[index:]
