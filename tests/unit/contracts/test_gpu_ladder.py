"""GPU ladders that begin at a chosen GPU."""

from __future__ import annotations

import pytest

from contracts.gpu_ladder import ladder_from

LADDER = ("T4", "A10", "A100-40GB")


@pytest.mark.parametrize(
    ("first", "ladder", "expected"),
    [
        (("T4",), LADDER, LADDER),
        (("A10",), LADDER, ("A10", "A100-40GB")),
        (("L4",), LADDER, ("L4", "A10", "A100-40GB")),
        (("T4",), LADDER[1:], LADDER),
        (("A100-40GB",), LADDER, ("A100-40GB",)),
        (("H100",), LADDER, ("H100",)),
        (("cpu",), ("cpu",), ("cpu",)),
    ],
)
def test_larger_gpus_follow_the_first_one(
    first: tuple[str, ...], ladder: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert ladder_from(first, ladder) == expected
