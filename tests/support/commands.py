"""The command `provisioner` as a process of its own, made by one that has its modules loaded: most of a short command's time
is spent loading them. What is run is the same from its first line on, but for the loading.

A process that only waits (one for each that runs tests) makes a child for each command, which gets the caller's
directory, environment and pipes. Daemons, hooks and whatever a test starts in another way are started as users do.
"""

from __future__ import annotations

import array
import os
import pickle
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

PROGRAM = os.path.join(os.path.dirname(sys.executable), "provisioner")
_ODD = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_")
_lock = threading.Lock()
_control: list[socket.socket] = []


def can_run(command: Sequence[str | bytes], environ: Mapping[str, str]) -> bool:
    """Is it the command, and nothing about Python or its words another than here?"""
    if command[0] != "provisioner" or shutil.which("provisioner", path=environ.get("PATH")) != PROGRAM:
        return False
    return all(environ.get(name) == os.environ.get(name) for name in environ if name.startswith(_ODD))


def run(command: Sequence[str | bytes], cwd: str, environ: Mapping[str, str], stdin: bytes) -> tuple[int, bytes, bytes]:
    """As subprocess.run: how it ended, and what it printed."""
    pipes = [os.pipe() for _ in range(3)]  # standard output, standard error, and how it ended
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        theirs = [given.fileno(), *(pipe[1] for pipe in pipes)]
        request = pickle.dumps(([os.fsencode(word) for word in command], os.fsencode(cwd), dict(environ), _umask()))
        with _lock:
            control = _started()
            socket.send_fds(control, [len(request).to_bytes(8, "big")], theirs)
            control.sendall(request)
    for _, end in pipes:
        os.close(end)
    out, err, ended = _read_all([pipe[0] for pipe in pipes])
    return int(ended or b"1"), out, err


def _started() -> socket.socket:
    if not _control:
        ours, theirs = socket.socketpair()
        words = (sys.executable, os.path.abspath(__file__), str(theirs.fileno()))
        subprocess.Popen(words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)  # it ends when nobody is left
        theirs.close()
        _control.append(ours)
    return _control[0]


def _umask() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1], 8) for line in file if line.startswith("Umask"))


def _read_all(ends: list[int]) -> list[bytes]:
    found = {end: bytearray() for end in ends}
    with selectors.DefaultSelector() as selector:
        for end in ends:
            selector.register(end, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                piece = os.read(key.fd, 1 << 16)
                found[key.fd] += piece
                if not piece:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return [bytes(found[end]) for end in ends]


def _wait(control: socket.socket) -> None:
    """Make a child for each request, until nobody is there to make any."""
    _load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    size = array.array("i").itemsize
    while True:
        head, ancillary, _, _ = control.recvmsg(8, socket.CMSG_SPACE(4 * size))
        if not head:
            return
        descriptors = array.array("i")
        for _, _, data in ancillary:
            descriptors.frombytes(data[: len(data) - len(data) % size])
        request = b""
        while len(request) < int.from_bytes(head, "big"):
            request += control.recv(1 << 16)
        if os.fork() == 0:
            control.close()
            _follow(pickle.loads(request), list(descriptors))
        for descriptor in descriptors:
            os.close(descriptor)


def _follow(request: Any, descriptors: list[int]) -> None:
    """Make the command's process, and say how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *standard, told = descriptors
    child = os.fork()
    if child == 0:
        os.close(told)
        for target, descriptor in enumerate(standard):
            os.dup2(descriptor, target)
        os.closerange(3, max(descriptors) + 1)
        _become(*request)
    for descriptor in standard:
        os.close(descriptor)
    _, status = os.waitpid(child, 0)
    os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(command: list[bytes], cwd: bytes, environ: dict[str, str], umask: int) -> None:
    import atexit
    import random
    import traceback

    from provisioner.__main__ import main

    code: Any = 1
    try:
        os.environ.clear()
        os.environ.update(environ)
        os.umask(umask)
        os.chdir(cwd)
        random.seed()
        _forget_home()
        sys.argv = [PROGRAM, *(os.fsdecode(word) for word in command[1:])]
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - until the process ends
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115 - until the process ends
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException:
        code = code or 120
    os._exit(code & 0xFF)


def _load() -> None:
    import importlib

    import pygit2  # noqa: F401

    from provisioner.cli.main import SECTIONS

    importlib.import_module("provisioner.cli.quick.exec")
    for path in (path for commands in SECTIONS.values() for path in commands.values()):
        importlib.import_module(path.partition(":")[0])


def _forget_home() -> None:
    """libgit2 has looked where the process that waits is at home."""
    from pygit2 import enums, option

    for level in (enums.ConfigLevel.SYSTEM, enums.ConfigLevel.XDG, enums.ConfigLevel.GLOBAL):
        option(enums.Option.SET_SEARCH_PATH, level, None)
    option(enums.Option.SET_HOMEDIR, os.environ.get("HOME"))


if __name__ == "__main__":
    _wait(socket.socket(fileno=int(sys.argv[1])))
