"""Figures of a vision stream, over all of its texts."""

from __future__ import annotations

import pytest

from contracts.events.session import SessionText, TextLatency
from modal_workers.vision_stream.figures import StreamFigures


@pytest.mark.parametrize(
    ("count", "share", "expected_ms"), [(20, 0.95, 19.0), (20, 0.5, 10.0), (2, 0.5, 1.0), (1, 0.95, 1.0), (3, 0.5, 2.0)]
)
def test_a_percentile_is_the_least_latency_that_so_many_texts_do_not_exceed(
    count: int, share: float, expected_ms: float
) -> None:
    """Of twenty texts, the slowest was the 95th percentile."""
    figures = StreamFigures()
    assert figures.percentile_ms(share) is None
    for number in range(count, 0, -1):
        latency = TextLatency(queue_ms=0.0, prefill_ms=0.0, decode_ms=0.0, first_token_ms=0.0, total_ms=float(number))
        figures.add(SessionText(run_id="run_1", chunk=number, text="a door", latency=latency), live=False)
    assert figures.percentile_ms(share) == expected_ms
