"""What the product leaves of itself in a repository that it no longer serves: nothing, but what a user asked to be kept."""

from __future__ import annotations

from pathlib import Path

from support import ok, repository


def _contents(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_nothing_is_left_in_the_git_directory(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    before = _contents(shop / ".git")
    ok(shop, "init")
    assert (shop / ".git/provisioner/app").exists()
    ok(shop, "hooks", "uninstall")
    assert not [hook for hook in _contents(shop / ".git/hooks") if not hook.endswith(".sample")]
    ok(shop, "hooks", "uninstall")
    ok(shop, "app", "remove", "--yes")
    assert _contents(shop / ".git") == before


def test_the_list_of_env_files_stays_for_the_next_installation(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    ok(shop, "init")
    ok(shop, "env", "--write", ".env.local")
    ok(shop, "hooks", "uninstall")
    assert (shop / ".git/provisioner/env-files").exists()
