"""A model of git's own semantics of branches, and random sequences of what people do to them.

A branch is a lineage: it begins when it is made or copied, keeps its identity when it is renamed, and ends when it is deleted
or another one takes its name. The model knows nothing of reflogs, files, times, or of how often anybody has looked.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from git_file_steps import CHANGES, FILE_STEPS, LOSS
from support import IN_CI

Step = tuple[str, ...]
"""A git command, or one of `FILE_STEPS`."""

ALIAS = "alias/"
"""What branches are called that are only another name of another branch. No data is shared by that."""

NAMES = ("a", "b", "c", "t", "z", "d/x", "d/y", "修正")
TEMPORARY = "tmp"
SILENT = ("-c", "core.logAllRefUpdates=false")


@dataclass(slots=True)
class Lineage:
    """`names` are those since the last look; `ended` is the last one, once it has ended. `mark` is what its data is known by."""

    names: list[str]
    mark: str = ""
    ended: str = ""
    logged: bool = True  # else git has written no log when it was made, and shows less of it
    blurred: bool = False  # git has not shown under which of its names it has ended
    unclear: bool = False  # git has not shown whether it is an earlier one: a person has to decide


@dataclass(slots=True)
class Model:
    """`there` are the branches; `ended` the lineages that have ended and whose data nobody has been given since."""

    there: dict[str, Lineage] = field(default_factory=dict)
    ended: list[Lineage] = field(default_factory=list)

    def begin(self, name: str, *, logged: bool = True) -> None:
        self.end(name)
        self.there[name] = Lineage([name], logged=logged and not name.startswith(ALIAS))

    def end(self, name: str) -> None:
        gone = self.there.pop(name, None)
        if gone is not None:
            gone.ended = name
            self.ended.append(gone)

    def rename(self, old: str, new: str) -> None:
        moving = self.there.pop(old)
        self.end(new)
        moving.names.append(new)
        self.there[new] = moving

    def apply(self, step: Step) -> None:
        """What a git command that succeeded has done."""
        match step[2:] if step[0] == "-c" else step:
            case ("branch", "-m" | "-M", old, new) if old in self.there:  # else HEAD named it, and it did not exist
                self.rename(old, new)
            case ("symbolic-ref", "-d", ref):
                self.end(ref.removeprefix("refs/heads/"))
            case ("branch", "-c" | "-C", _, new):
                self.begin(new)
            case (
                ("branch", "-f", name, _)
                | ("update-ref", "--create-reflog", name, _)
                | ("update-ref" | "symbolic-ref", name, _)
            ) if name != "HEAD" and not name.startswith("-"):
                if name.removeprefix("refs/heads/") not in self.there:
                    self.begin(name.removeprefix("refs/heads/"), logged=step[0] != "-c" or "--create-reflog" in step)
            case ("branch", "-D", name) | ("update-ref", "-d", name):
                self.end(name.removeprefix("refs/heads/"))
            case ("branch", name, *_) | ("worktree", "add", "-q", "-b", name, *_) if not name.startswith("-"):
                self.begin(name, logged=step[0] != "-c")
            case (name,) if name == LOSS:
                for lineage in (*self.there.values(), *self.ended):
                    lineage.logged = False
            case _:
                pass

    def may_come_back(self, lineage: Lineage, *, logs_rewritten: bool, watched: bool) -> set[str]:
        """The data of lineages that have ended, which a new branch of their name gets back.

        Once all logs were rewritten, git no longer shows under which of its names a lineage has ended, and which of its names
        another one has begun with. If the branches are `watched` all the time, or if the ended one had a name and no log, it
        gets that under any of its names.
        """
        last = lineage.names if logs_rewritten or watched else lineage.names[-1:]
        return {
            gone.mark
            for gone in self.ended
            for names in (last if gone.logged else lineage.names,)
            if gone.mark and {*names} & {gone.ended, *(gone.names if logs_rewritten or gone.blurred else ())}
        }

    def looked(self, *, logs_rewritten: bool) -> None:
        for gone in self.ended:
            gone.blurred |= logs_rewritten
        for lineage in self.there.values():
            lineage.names = lineage.names[-1:]


class Sequence:
    """Commands for `dice` to choose from, as a person or a script gives them; many of them lead to ambiguous names."""

    def __init__(self, dice: random.Random, model: Model, *, rewriting: bool, losing: bool = False) -> None:
        self.dice, self.model, self.rewriting, self.losing = dice, model, rewriting, losing
        self.trees = 0

    def steps(self) -> Iterator[Step]:
        kinds = [
            *(self._rename,) * 5,
            *(self._rename_over, self._create, self._delete, self._copy, self._copy_over) * 2,
            *(self._swap, self._cycle, self._again, self._leave_twice, self._copy_and_leave, self._move_aside) * 2,
            *(self._commit, self._pack, self._worktree, self._force, self._plumbing, self._head, self._alias),
            *(self._checked_out_elsewhere, self._exchange),
        ]
        if self.rewriting:
            kinds += [self._collect, self._expire, self._wipe, self._purge]
        if self.losing:
            kinds += [self._lose, self._change] * 2
        yield from self.dice.choice(kinds)()

    def _some(self) -> str:
        return self.dice.choice(self._named() or ["a"])

    def _named(self) -> list[str]:
        return sorted(name for name in self.model.there if not name.startswith(ALIAS))

    def _free(self) -> str:
        return self.dice.choice([name for name in NAMES if name not in self.model.there] or ["free"])

    def _rename(self) -> Iterator[Step]:
        yield ("branch", "-m", self._some(), self._free())

    def _rename_over(self) -> Iterator[Step]:
        yield ("branch", "-M", self._some(), self._some())

    def _create(self) -> Iterator[Step]:
        yield ("branch", self._free(), "main")

    def _delete(self) -> Iterator[Step]:
        yield self.dice.choice([("branch", "-D", self._some()), ("update-ref", "-d", f"refs/heads/{self._some()}")])

    def _copy(self) -> Iterator[Step]:
        yield ("branch", "-c", self._some(), self._free())

    def _copy_over(self) -> Iterator[Step]:
        yield ("branch", "-C", self._some(), self._some())

    def _swap(self) -> Iterator[Step]:
        one, other = self._some(), self._some()
        yield from (("branch", "-m", *pair) for pair in ((one, TEMPORARY), (other, one), (TEMPORARY, other)))

    def _cycle(self) -> Iterator[Step]:
        names = self.dice.sample(self._named(), min(3, len(self._named())))
        if len(names) == 3:
            a, b, c = names
            yield from (("branch", "-m", *pair) for pair in ((c, TEMPORARY), (b, c), (a, b), (TEMPORARY, a)))

    def _again(self) -> Iterator[Step]:
        name = self._some()
        yield ("branch", "-D", name)
        yield ("branch", name, "main")

    def _leave_twice(self) -> Iterator[Step]:
        name = self._some()
        yield ("branch", "-m", name, self._free())
        yield ("branch", name, "main")
        yield ("branch", "-m", name, self._free())

    def _copy_and_leave(self) -> Iterator[Step]:
        name, other = self._some(), self._free()
        yield ("branch", "-m", name, other)
        yield ("branch", "-c", other, name)
        yield ("branch", "-m", name, self._free())

    def _move_aside(self) -> Iterator[Step]:
        """A new branch takes the place of one that goes to the new one's."""
        name, new = self._some(), self._free()
        yield ("branch", new, "main")
        yield ("branch", "-m", new, TEMPORARY)
        yield ("branch", "-m", name, new)
        yield ("branch", "-m", TEMPORARY, name)

    def _commit(self) -> Iterator[Step]:
        yield ("update-ref", f"refs/heads/{self._some()}", self.dice.choice(["main", "main~1"]))

    def _force(self) -> Iterator[Step]:
        yield ("branch", "-f", self._some(), self.dice.choice(["main", "main~1"]))

    def _pack(self) -> Iterator[Step]:
        yield ("pack-refs", "--all")

    def _worktree(self) -> Iterator[Step]:
        self.trees += 1
        yield ("worktree", "add", "-q", "-b", self._free(), f"../tree-{self.trees}", "main")
        yield ("worktree", "remove", "--force", f"../tree-{self.trees}")

    def _checked_out_elsewhere(self) -> Iterator[Step]:
        """A branch gets another name while another worktree has it."""
        self.trees += 1
        name, tree = self._some(), f"../tree-{self.trees}"
        yield ("worktree", "add", "-q", tree, name)
        yield ("branch", "-m", name, self._free())
        yield ("branch", name, "main")
        if self.dice.random() < 0.5:
            yield ("-C", tree, "checkout", "-q", "--detach")
        else:
            yield ("worktree", "remove", "--force", tree)
            yield ("worktree", "prune")

    def _plumbing(self) -> Iterator[Step]:
        """Branches that are made, moved, and deleted by name, with a log or without."""
        ref = f"refs/heads/{self.dice.choice([self._free(), self._some()])}"
        how = self.dice.choice([(), ("--create-reflog",)])
        off = self.dice.choice([(), ("-c", "core.logAllRefUpdates=false")])
        yield (*off, "update-ref", *how, ref, self.dice.choice(["main", "main~1"]))
        if self.dice.random() < 0.3:
            yield ("update-ref", "-d", ref)

    def _exchange(self) -> Iterator[Step]:
        """What a forge does to give a branch another name: a new one at its commit, and the old one is deleted."""
        name, new = self._some(), self._free()
        yield ("update-ref", f"refs/heads/{new}", f"refs/heads/{name}")
        yield ("update-ref", "-d", f"refs/heads/{name}")

    def _head(self) -> Iterator[Step]:
        yield ("symbolic-ref", "HEAD", f"refs/heads/{self.dice.choice([self._some(), self._free(), 'main', 'main'])}")

    def _alias(self) -> Iterator[Step]:
        alias = f"refs/heads/{ALIAS}{self.dice.choice('xy')}"
        target = self.dice.choice([self._some(), self._free()])
        yield self.dice.choice([("symbolic-ref", "-d", alias), ("symbolic-ref", alias, f"refs/heads/{target}")])

    def _lose(self) -> Iterator[Step]:
        """All logs are lost, and branches are renamed and made without one. A branch that had none has only its name."""
        if not all(lineage.logged for lineage in self.model.there.values()):
            return
        yield (LOSS,)
        for _ in range(self.dice.randint(0, 2)):
            for step in self.dice.choice(
                [self._swap, self._cycle, self._rename, self._rename_over, self._leave_twice]
            )():
                yield (*self.dice.choice([SILENT, SILENT, ()]), *step)
        yield from self._change()

    def _change(self) -> Iterator[Step]:
        """Something changes the files, and git is not asked."""
        yield (self.dice.choice(CHANGES).__name__,)

    def _purge(self) -> Iterator[Step]:
        """What people do to be rid of a large file."""
        yield from self._wipe()
        yield ("gc", "-q", "--prune=now")

    def _collect(self) -> Iterator[Step]:
        yield ("gc", "-q")

    def _expire(self) -> Iterator[Step]:
        yield ("reflog", "expire", "--all")

    def _wipe(self) -> Iterator[Step]:
        yield ("reflog", "expire", "--expire=now", "--expire-unreachable=now", "--all")


REWRITING = ("gc", "reflog", *FILE_STEPS)
"""Steps that rewrite all logs, or that git shows less after."""


REFTABLE_GIT = "REFTABLE_GIT"
"""A directory with a git of version 2.45 or later, where the usual one is older."""


def use_reftable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Store the refs of new repositories in a reftable. Skips where no git can; `make test` provides one that can."""
    if directory := os.environ.get(REFTABLE_GIT):
        monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    # In another directory than this one, as the tests run git: a relative path leads nowhere there.
    usage = subprocess.run(["git", "init", "-h"], cwd="/", capture_output=True, text=True, check=False)
    if "--ref-format" not in usage.stdout + usage.stderr:
        missing = f"git is older than 2.45, and {REFTABLE_GIT} names no directory with a newer one"
        if IN_CI:
            pytest.fail(f"{missing}: make it with .ci/newer-git")
        pytest.skip(missing)
    monkeypatch.setenv("GIT_DEFAULT_REF_FORMAT", "reftable")
