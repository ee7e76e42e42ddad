"""A mount namespace in which private directories are empty, if the kernel lets this user have one.

Landlock prevents opening existing files, but not changing their mode, owner, or times, nor connecting to sockets. In
this namespace they are invisible, which prevents that too.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18


def hide(directories: Iterable[str], shown: Sequence[str]) -> bool:
    """Make each directory permanently empty for this process and its children, except for the paths `shown` in it.

    False, and nothing is changed, if this user may not. Raises OSError if it cannot be finished.
    """
    hidden = [path for path in map(os.path.realpath, directories) if os.path.isdir(path)]
    hidden = [path for path in hidden if not any(path != other and _inside(path, other) for other in hidden)]
    if not _unshare():
        return False
    _mount(None, "/", None, _REC | _PRIVATE)
    reached = dict.fromkeys(map(os.path.realpath, shown))
    for directory in dict.fromkeys(hidden):
        inside = [path for path in reached if _inside(path, directory) and os.path.exists(path)]
        kept = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in inside]
        _mount("tmpfs", directory, "tmpfs", _NOSUID | _NODEV, "size=1m,mode=0755")
        for path, fd in kept:
            source = f"/proc/self/fd/{fd}"
            if os.path.isdir(source):
                os.makedirs(path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC))
            _mount(source, path, None, _BIND | _REC)
            os.close(fd)
        _mount(None, directory, None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV)
    return True


def _unshare() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        return not libc.unshare(_NEWNS)
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_NEWUSER | _NEWNS):
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return True


def _inside(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind, options)]
    if libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
