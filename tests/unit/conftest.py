"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.tracing import Recorder, Span, use_recorder


@pytest.fixture
def recorded() -> Iterator[list[Span]]:
    """Record every span of this process into a list."""
    spans: list[Span] = []
    use_recorder(Recorder(spans.append))
    yield spans
    use_recorder(None)
