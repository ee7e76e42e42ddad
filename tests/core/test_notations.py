"""Sizes and times have one notation wherever a person writes or reads them."""

from __future__ import annotations

import pytest

from provisioner.core.allowance import USUAL_ALLOWANCE, AllowanceChange
from provisioner.core.durations import about
from provisioner.core.errors import UsageError
from provisioner.core.sizes import size


@pytest.mark.parametrize("text", ["500MB", "500mb", "10GB", "2GiB", "1 TB", "4096"])
def test_a_limit_of_an_instance_is_written_like_every_other_size(text: str) -> None:
    assert AllowanceChange(temp=text).of(USUAL_ALLOWANCE).temp_bytes == size(text)


@pytest.mark.parametrize("text", ["0", "0MB", "-1MB", "much", "", "1XB", "9" * 30 + "TB"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a"):
        AllowanceChange(temp=text).of(USUAL_ALLOWANCE)


def test_a_time_span_is_said_in_the_largest_unit_that_fits() -> None:
    spans = (-1, 0, 59.4, 60, 3599, 3600, 86_399, 86_400, 100 * 86_400)
    assert [about(each) for each in spans] == ["0 s", "0 s", "59 s", "1 min", "59 min", "1 h", "23 h", "1 d", "100 d"]
