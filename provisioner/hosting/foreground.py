"""A command in the foreground of a terminal, as a child that stays in this process's group.

The terminal sends Ctrl-C and Ctrl-Z to both: the child handles the first, and both stop with the second, as one job of the
shell. Signals that other processes send to this one alone are handed on. If this one is killed, the child is asked to end.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence

from provisioner.runs.confinement import die_with_parent

_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them
_BY_THE_KERNEL = 0x80  # siginfo_t.si_code of what a terminal sends: the child has it, too


def run(program: str, words: Sequence[str], environ: Mapping[str, str], tick: Callable[[], float]) -> int:
    """Run a command to its end: its exit status as `os.waitpid` has it. `tick` is called now and again until then, and says
    in how many seconds to call it next. Raises OSError if it cannot be started."""
    watched = {*_HANDED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        child = _started(program, words, environ, before)
        wait = 0.0
        while True:
            wait = tick() if wait <= 0 else wait
            came = signal.sigtimedwait(watched, wait)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status
            if came is None:
                wait = 0.0
            elif came.si_signo != signal.SIGCHLD and came.si_code != _BY_THE_KERNEL:
                os.kill(child, came.si_signo)
    finally:
        while signal.sigtimedwait(watched, 0) is not None:  # what came too late to be handed on
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_as(status: int) -> int:
    """The exit code of a command that ended so. What ended by a signal that people send ends this process, too."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    if -code in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return 128 - code


def _started(
    program: str, words: Sequence[str], environ: Mapping[str, str], mask: set[int] | set[signal.Signals]
) -> int:
    refusal, refused = os.pipe()  # closed by the kernel when the command has been started
    child = os.fork()
    if child == 0:
        try:
            if sys.platform == "linux":
                die_with_parent(signal.SIGTERM)
            for number in _RESTORED:
                signal.signal(number, signal.SIG_DFL)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.execve(program, list(words), dict(environ))
        except OSError as error:
            os.write(refused, str(error.errno).encode())
        finally:
            os._exit(126)
    os.close(refused)
    with open(refusal, "rb") as pipe:
        why = pipe.read()
    if why:
        os.waitpid(child, 0)
        raise OSError(int(why), os.strerror(int(why)))
    return child
