"""What a command may reach on this machine: a value that the kernel enforces with `provisioner.runs.confinement`.

A sandbox lists what is allowed, and everything else is refused: the home with its key, registry and logs, other branches'
databases and checkouts, and the user's own files. It also has the command's processes see, signal and trace no others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix/store", "/gnu/store"),
    *("/snap", "/proc", "/sys", "/var/lib/ca-certificates", "/run/systemd/resolve", "/run/resolvconf", "/run/nscd"),
    *("/run/NetworkManager/resolv.conf", "/run/current-system", "/etc/resolv.conf", "/etc/localtime"),
)
"""What programs need to start, to resolve names, and to check certificates, as far as every user may read it."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")

PRIVATE = (
    *("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/sudoers.d"),
    *("/etc/ssl/private", "/etc/ssh", "/etc/krb5.keytab", "/etc/provisioner", "/etc/credstore", "/etc/wireguard"),
    *("/etc/credstore.encrypted", "/etc/NetworkManager/system-connections", "/etc/letsencrypt", "/etc/cron.d"),
)
"""Of these a command that root runs has no use, and could read them."""

_BESIDE_PROGRAMS = ("lib", "lib64", "libexec", "share", "include", "pyvenv.cfg")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """``readable`` are files and directories to read and execute; ``writable`` directories for anything; ``databases``
    directories whose files may be read, written, created, and deleted, but not programs or links.

    ``listen`` and ``connect`` are TCP ports; None is any. ``unix_sockets``: may it make any? With them it can talk to
    every service of this machine that has one, such as Docker's and systemd's, and let those do what it may not.
    ``hidden`` are directories that are empty for it, except for what else it may reach, if the kernel allows that.
    """

    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    listen: tuple[int, ...] | None = ()
    connect: tuple[int, ...] | None = None
    unix_sockets: bool = False
    hidden: tuple[str, ...] = ()

    def document(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Sandbox:
        """The sandbox of a `document`."""
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in document.items()}
        return cls(**values)  # type: ignore[arg-type]


def system(excluded: Iterable[str]) -> tuple[str, ...]:
    """The system's programs and settings, without what is `excluded`."""
    private = tuple(map(os.path.realpath, (*excluded, *PRIVATE)))
    found = (path for each in SYSTEM for path in around(each, private))
    return tuple(dict.fromkeys(path for path in found if os.stat(path).st_mode & 0o004))


def programs(search_path: str, prefixes: Iterable[str], excluded: Iterable[str]) -> tuple[str, ...]:
    """The programs on a search path and in installed `prefixes`, with their libraries, without what is `excluded`."""
    private = tuple(map(os.path.realpath, excluded))
    found: dict[str, None] = {}
    for path in (*_programs(search_path), *prefixes):
        found |= dict.fromkeys(around(path, private))
    return tuple(found)


def around(path: str, excluded: Iterable[str]) -> Iterator[str]:
    """The path; if something in it is excluded, then what is beside that."""
    real = os.path.realpath(path)
    if os.path.exists(real):
        yield from _around_real(real, excluded)


def _around_real(real: str, excluded: Iterable[str]) -> Iterator[str]:
    if any(_inside(real, other) for other in excluded):
        return
    inner = [other for other in excluded if _inside(other, real)]
    if not inner:
        yield real
        return
    try:
        entries = sorted(os.scandir(real), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not entry.is_symlink():  # what a link leads to is reached by its own name, or is not
            yield from _around_real(entry.path, inner)


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _programs(search_path: str) -> Iterator[str]:
    """The directories of a search path, and what is installed beside them; of a user's directory only what is named so."""
    user = os.path.realpath(os.path.expanduser("~"))
    for directory in search_path.split(os.pathsep):
        if not os.path.isabs(directory):
            continue
        yield directory
        prefix = os.path.dirname(os.path.realpath(directory))
        if os.path.basename(directory) in ("bin", "sbin") and prefix not in ("/", user):
            shared = _inside(prefix, os.path.join(user, ".local")) and prefix.count("/") < user.count("/") + 3
            yield from (os.path.join(prefix, name) for name in _BESIDE_PROGRAMS if name != "share" or not shared)
