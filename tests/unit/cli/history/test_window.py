"""Points of a window of events, as they are written on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cli.failure import Failure
from cli.history import window


@pytest.mark.parametrize(("text", "ago_s"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("7d", 7 * 86400)])
def test_a_duration_is_a_time_ago(text: str, ago_s: int) -> None:
    """As in `saccade events`, without a unit it is seconds."""
    before = datetime.now(UTC)
    moment = window._moment(text, "--since")
    assert before <= moment + timedelta(seconds=ago_s) <= datetime.now(UTC)


@pytest.mark.parametrize("text", ["90x", "", "soon", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="is not a time"):
        window._moment(text, "--since")
