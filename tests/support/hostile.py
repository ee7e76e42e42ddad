"""Every command with words that make sense of it, and surroundings in which it has to fail well."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from provisioner.cli.main import cli

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SNAPSHOT = "12345678"

# The words behind the name of each command; what is not named here fails `test_every_command_has_words`.
WORDS: dict[str, tuple[str, ...]] = {
    "init": (),
    "status": (),
    "reconcile": (),
    "exec": ("--", "true"),
    "env": (),
    "instance add": ("more",),
    "instance delete": ("default", "--yes"),
    "instance edit": ("default", "--name", "kv-files"),
    "instance list": (),
    "instance move": ("default", "--directory", "moved", "--yes"),
    "instance recover": ("default",),
    "instance show": ("default",),
    "instance start": ("default",),
    "instance stop": ("default",),
    "instance test": ("default",),
    "app add": (),
    "app list": (),
    "app remove": ("--yes",),
    "app set": ("--grace", "1h"),
    "app show": (),
    "assign": ("default",),
    "unassign": ("default", "--yes"),
    "database archive": ("login", "--yes"),
    "database fix": ("login",),
    "database fork": ("main", "login", "--yes"),
    "database list": (),
    "database purge": ("login", "--yes"),
    "database recover": ("login",),
    "database reset": ("login", "--yes"),
    "database restore": ("login", SNAPSHOT, "--yes"),
    "database show": ("login",),
    "database snapshot create": ("login",),
    "database snapshot delete": (SNAPSHOT, "--yes"),
    "database snapshot list": (),
    "database dump": ("login",),
    "database load": ("login", "/dev/null", "--replace", "--yes"),
    "database diff": ("main", "login"),
    "database share": ("main", "login", "--yes"),
    "database unshare": ("login",),
    "var list": (),
    "var set": ("NAME=value",),
    "var unset": ("NAME", "--yes"),
    "timeline deploy": (),
    "timeline expire": ("login", "--after", "never"),
    "timeline fix": ("login",),
    "timeline list": (),
    "timeline log": ("login",),
    "timeline protect": ("login",),
    "timeline show": ("login",),
    "timeline unprotect": ("login",),
    "preview create": ("HEAD",),
    "preview delete": ("HEAD", "--yes"),
    "preview list": (),
    "prune": ("--yes",),
    "token create": ("--app", "shop"),
    "token list": (),
    "token revoke": ("none",),
    "token rotate-key": ("--yes",),
    "kv delete": ('["a"]', "--yes"),
    "kv get": ('["a"]',),
    "kv list": (),
    "kv set": ('["a"]', "1"),
    "kv watch": ('["a"]', "--count", "1"),
    "hooks install": (),
    "hooks status": (),
    "hooks uninstall": (),
    "home adopt": ("--moved",),
    "home copy": ("--output", "copy"),
    "home promote": ("--yes",),
    "home show": (),
    "doctor": (),
    "completion": ("bash",),
    "app domain add": ("www.example.com",),
    "app domain list": (),
    "app domain remove": ("www.example.com", "--yes"),
    "app domain verify": ("www.example.com", "--trust"),
    "app lock": (),
    "app redeploy": (),
    "app rollback": (),
    "app run": ("--command", "true"),
    "app start": (),
    "app stop": (),
    "app unlock": (),
    "dev": ("--", "true"),
    "events": (),
    "logs": (),
    "open": ("--print",),
}
ENDLESS = ("watch", "serve", "up", "dashboard", "home follow")
"""Where nothing keeps them from it, these go on; other tests end them."""

CODES = (0, 1, 2, 3)


def leaves() -> Iterator[str]:
    """Every command that is no group, by its words."""

    def below(command: click.Command, path: tuple[str, ...]) -> Iterator[str]:
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from below(found, (*path, name))
        else:
            yield " ".join(path)

    context = click.Context(cli)
    yield from below(cli, ())


def command_of(name: str) -> click.Command:
    """The command that these words begin."""
    command: click.Command = cli
    for word in name.split(" "):
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(cli), word)
        assert found is not None
        command = found
    return command


def help_of(name: str) -> str:
    """What a command prints with --help."""
    command = command_of(name)
    return command.get_help(click.Context(command, info_name=name))


def fault(name: str, code: int, out: str, err: str) -> str:
    """What is wrong with how a command has ended; empty if nothing is."""
    said = f"{name}: exit code {code}: {err.strip()[-400:]!r}"
    if code not in CODES:
        return said
    if "Traceback" in err or "Traceback" in out or "a bug" in err or "Exception ignored" in err:
        return said
    if name in ("exec", "env") and code not in (0, 3) and "standard output" not in err:
        return said
    if name in ("exec", "env") and code and out:
        return f"{said}, and printed {out!r}"
    return "" if code == 0 or err.strip() else f"{said}: it says nothing"


class Pristine:
    """Directories that are put back as they were; a home knows its own file by the inode, so that is linked."""

    def __init__(self, kept: Path, *directories: Path) -> None:
        self._copies = [(directory, kept / str(number)) for number, directory in enumerate(directories)]
        for directory, copy in self._copies:
            shutil.copytree(directory, copy, symlinks=True, copy_function=_copy)

    def put_back(self) -> None:
        for directory, copy in self._copies:
            _remove(directory)
            shutil.copytree(copy, directory, symlinks=True, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    if os.path.basename(source) == "identity":
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        os.chmod(path, 0o700)
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


def flip(path: Path, chance: random.Random, count: int) -> None:
    """Flip so many bits of a file."""
    data = bytearray(path.read_bytes())
    for _ in range(count):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)
