"""Sizes as users write them."""

from __future__ import annotations

import pytest

from provisioner.core.errors import UsageError
from provisioner.core.sizes import LARGEST, size


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("512", 512), ("512B", 512), ("500MB", 500_000_000), ("4 gb", 4 * 10**9), ("2GiB", 2 * 2**30)],
)
def test_a_size_is_bytes_or_has_a_unit(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "MB", "-1", "1.5GB", "1PB", "1 0MB", str(LARGEST + 1), "9" * 5000, "5000000TB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        size(text)
