"""What `hooks uninstall` leaves of us in a repository: nothing, but what a user asked to be kept."""

from __future__ import annotations

from pathlib import Path

from support import provisioner, repository


def _contents(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_nothing_is_left_in_the_git_directory(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    before = _contents(shop / ".git")
    provisioner(shop, "init", check=True)
    assert (shop / ".git/provisioner/app").exists()
    provisioner(shop, "hooks", "uninstall", check=True)
    assert _contents(shop / ".git") == before
    provisioner(shop, "hooks", "uninstall", check=True)


def test_the_list_of_env_files_stays_for_the_next_installation(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    provisioner(shop, "init", check=True)
    provisioner(shop, "env", "--write", ".env.local", check=True)
    provisioner(shop, "hooks", "uninstall", check=True)
    assert _contents(shop / ".git/provisioner") == ["env-files"]
