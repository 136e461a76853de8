"""The headline of a comparison: nobody is called faster while the error band contains zero."""

from __future__ import annotations

import pytest

from modal_workers.lap_compare.headline import headline, is_clear


@pytest.mark.parametrize(
    ("delta_s", "error_s", "sentence"),
    [
        (-0.65, 0.16, "B is 0.65 s faster ± 0.16 s over 24.0 s of the lap"),
        (0.65, 0.16, "A is 0.65 s faster ± 0.16 s over 24.0 s of the lap"),
        (-0.10, 0.16, "No clear difference over 24.0 s of the lap: B minus A is −0.10 s ± 0.16 s"),
        (0.16, 0.16, "No clear difference over 24.0 s of the lap: B minus A is +0.16 s ± 0.16 s"),
        (0.0, 0.0, "No clear difference over 24.0 s of the lap: B minus A is 0.00 s ± 0.00 s"),
    ],
)
def test_nobody_is_faster_while_the_band_contains_zero(delta_s: float, error_s: float, sentence: str) -> None:
    assert headline(delta_s, error_s, 24.0) == sentence
    assert is_clear(delta_s, error_s) == ("faster" in sentence)
