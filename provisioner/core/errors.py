"""Errors in the user's words, each with its next step. The command line turns them into exit codes."""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class ProvisionerError(Exception):
    """Something failed. ``str()`` is one line: what failed, then what to do next."""

    exit_code = 1
    suggests = True  # candidates are said with it; if not, the hint has them

    def __init__(self, message: str, hint: str = "", *, candidates: Sequence[str] = ()) -> None:
        """`candidates` are what may have been meant, each in a spelling that has one meaning."""
        self.message = message
        self.hint = hint
        self.candidates = tuple(candidates)
        meant = f"Did you mean {' or '.join(candidates)}?" if candidates and self.suggests else ""
        ended = message if message.endswith((".", "?")) else f"{message}."
        super().__init__(" ".join(part for part in (ended if hint or meant else message, meant, hint) if part))


class NotConfirmed(ProvisionerError):  # noqa: N818
    """A question was answered with no, or could not be asked. Nothing was changed."""


class UsageError(ProvisionerError):
    """A command or a form has invalid input."""

    exit_code = 2


class NotResolved(ProvisionerError):  # noqa: N818 - what a user named, and not a bug
    """A timeline or its database cannot be determined, or is not connected: nothing may run."""

    exit_code = 3
    code = "not-found"
    """Why, for programs: ``not-found``, ``ambiguous``, ``not-ready``, or ``refused``."""


class Ambiguous(NotResolved):
    """A name has several meanings."""

    code = "ambiguous"
    suggests = False


class NotReady(NotResolved):
    """A timeline or its database exists, but is not connected."""

    code = "not-ready"


class WrongHome(NotResolved):
    """A directory is not certainly the home that it claims to be: nothing is changed and no program is connected."""

    code = "refused"


class WrongRepository(NotResolved):
    """A repository is not certainly the one that an app was registered with: nothing is changed for it."""

    code = "refused"


class LockTimeout(ProvisionerError):  # noqa: N818
    """Another process holds a lock for longer than a caller can wait."""


class UnreadableRepository(ProvisionerError):  # noqa: N818
    """The refs of a repository could not be read, so nothing is known about its branches."""


class StorageFailed(ProvisionerError):  # noqa: N818
    """The disk, the directory, or the registry refused."""


_SHORTAGES = {
    errno.EMFILE: ("too many files are open in this process", "Raise its limit (ulimit -n), then run it again"),
    errno.ENFILE: ("too many files are open on this machine", "Raise fs.file-max, or stop other programs"),
    errno.EAGAIN: (
        "no more processes or threads can be started",
        "Raise the limit (ulimit -u), free memory, or stop other programs, then run it again",
    ),
    errno.ENOMEM: ("out of memory", "Free memory, then run it again"),
    errno.ENOSPC: ("no space is left on a disk", "Free space or inodes there, then run it again"),
    errno.EDQUOT: ("a disk quota is used up", "Free space, or raise the quota, then run it again"),
}
_NO_THREAD = "can't start new thread"  # the only words of Python's for it


def shortage(error: BaseException) -> StorageFailed | None:
    """The error if the system has run out of something, no matter what was done with it; None for any other."""
    number = getattr(error, "errno", None)
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    elif isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        number = errno.EAGAIN
    if number not in _SHORTAGES or hasattr(error, "characters_written"):
        return None  # a write to a full pipe that does not block says EAGAIN, too
    what, hint = _SHORTAGES[number]
    path = getattr(error, "filename", None)
    return StorageFailed(f"{what}: {path!s}" if isinstance(path, str) else what, hint)


def summary(error: BaseException) -> str:
    """A failure on one line, for a log: one of these as it is, any other with its class and the line that raised it."""
    if isinstance(error, ProvisionerError):
        return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
    return f"{type(error).__name__}: {error}{place}"
