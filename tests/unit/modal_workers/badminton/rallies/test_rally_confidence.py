"""How sure the limits of a rally are."""

from __future__ import annotations

from modal_workers.badminton.rallies.ending import Ending
from modal_workers.badminton.rallies.rally_confidence import rally_confidence


def test_a_rally_that_was_seen_whole_and_landed_is_surer_than_others() -> None:
    landed = Ending(3.0, "floor", (1.0, 2.0), 0.2)
    sure = rally_confidence(landed, 0.9)
    assert 0.95 < sure < 1
    assert rally_confidence(landed, 0.3) < sure
    assert rally_confidence(Ending(3.0, "net", (1.0, 6.7), 0.2), 0.9) < sure
    assert rally_confidence(Ending(3.0, "floor", (1.0, 2.0), 1.5), 0.9) < sure
    assert rally_confidence(Ending(3.0, "not_seen"), 0.9) < 0.5
    assert rally_confidence(Ending(3.0, "in_air"), 0.9) < 0.5
