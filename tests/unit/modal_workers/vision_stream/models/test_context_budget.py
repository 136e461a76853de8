"""What a chunk is put behind when the conversation has reached its limit."""

from __future__ import annotations

import pytest

from modal_workers.vision_stream.models.context_budget import Base, base_that_fits
from modal_workers.vision_stream.models.model import Memory


@pytest.mark.parametrize(
    ("memory", "counts", "found"),
    [
        ("cache", (100, 40, 20, 10), Base.WHOLE),
        ("cache", (101, 40, 20, 10), Base.LAST_CHUNK),
        ("cache", (101, 50, 20, 10), Base.LAST_CHUNK),
        ("cache", (101, 51, 20, 10), Base.TEXTS),
        ("cache", (101, None, 20, 10), Base.TEXTS),
        ("cache", (101, 51, 101, 100), Base.NOTHING),
        ("cache", (101, 51, 101, 101), None),
        ("history", (50, 40, 60, 10), Base.TEXTS),
        ("history", (50, 40, 101, 10), Base.NOTHING),
        ("history", (50, 40, 101, 101), None),
    ],
)
def test_as_much_as_fits(memory: Memory, counts: tuple[int | None, ...], found: Base | None) -> None:
    """The tokens behind the whole conversation, the last chunk, the texts and nothing; the limit is 100."""
    assert base_that_fits(memory, dict(zip(Base, counts, strict=True)).__getitem__, 100) is found
