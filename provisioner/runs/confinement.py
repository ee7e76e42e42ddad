"""Putting a process into a sandbox, or under another account, before it becomes a command. A refusal is final."""

from __future__ import annotations

import ctypes
import os
import pwd

from provisioner.runs import landlock, namespace, seccomp
from provisioner.runs.sandbox import DEVICES, Sandbox

_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT, _CLEAR_ALL = 1, 24, 38, 47, 4
_KEPT = (0, 1, 3, 4)  # chown, dac_override, fowner, fsetid: installers that root runs set owners and modes
_LAST_CAPABILITY = 63


def hide(sandbox: Sandbox) -> None:
    """Hide private directories, if the kernel lets this user. Before the account is changed. Raises OSError."""
    namespace.hide(sandbox.hidden, (*sandbox.readable, *sandbox.writable, *sandbox.databases))


def enter(sandbox: Sandbox) -> None:
    """Confine this process and what it starts, permanently. Raises OSError."""
    _give_up_privileges()
    rules = landlock.Ruleset(listen=sandbox.listen, connect=sandbox.connect)
    for paths, access in (
        (sandbox.readable, landlock.READ),
        (sandbox.writable, landlock.ANYTHING),
        (sandbox.databases, landlock.DATA),
        (DEVICES, landlock.DEVICE),
    ):
        for path in paths:
            rules.allow(path, access)
    rules.restrict()
    if seccomp.supported():
        listening = sandbox.listen is None or bool(sandbox.listen)
        seccomp.restrict(unix_sockets=sandbox.unix_sockets, listening=listening)


def become(user: str) -> None:
    """Become another account, with its groups and nothing else. Raises OSError, and KeyError for an unknown one."""
    account = pwd.getpwnam(user)
    os.initgroups(user, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def die_with_parent(number: int) -> None:
    """Have the kernel send this signal when the parent dies. Lost when the account changes."""
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, number, 0, 0, 0)


def _give_up_privileges() -> None:
    """From now on, programs with other owners or capabilities run without them."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(_LAST_CAPABILITY + 1):
        if capability not in _KEPT:
            libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)  # refused to all but root, and only root has any
    libc.prctl(_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
