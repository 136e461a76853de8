"""Shares of the event loop: who waits, for how long, and who does not."""

from __future__ import annotations

import pytest

from kit.auth.loop_time_shares import SHARE, LoopTimeShares


def test_a_tenant_alone_never_waits() -> None:
    shares = LoopTimeShares()
    for second in range(100):
        shares.seen("acme", second)
        shares.use("acme", 1.0, second)
        assert shares.wait_s("acme", second) == 0


def test_a_tenant_beside_others_gets_its_share_of_the_loop() -> None:
    shares, now_s, used_s = LoopTimeShares(), 0.0, 0.0
    while now_s < 60:
        shares.seen("rival", now_s)
        shares.seen("acme", now_s)
        now_s += shares.wait_s("acme", now_s)
        now_s, used_s = now_s + 0.01, used_s + 0.01
        shares.use("acme", 0.01, now_s)
    assert used_s == pytest.approx(60 * SHARE, rel=0.05)
    assert shares.wait_s("rival", now_s) == 0, "who used little never waits"


def test_what_was_used_alone_is_owed_for_a_burst_at_most() -> None:
    shares = LoopTimeShares()
    shares.use("acme", 500.0, 10.0)
    shares.seen("rival", 10.0)
    assert 0 < shares.wait_s("acme", 10.0) <= 1.0
    assert shares.wait_s("acme", 11.01) == 0


def test_a_tenant_that_left_is_no_reason_to_wait() -> None:
    shares = LoopTimeShares()
    shares.seen("rival", 10.0)
    shares.use("acme", 5.0, 10.5)
    assert shares.wait_s("acme", 10.9) > 0
    shares.use("acme", 5.0, 11.1)
    assert shares.wait_s("acme", 11.1) == 0


def test_tenants_are_forgotten_when_there_are_very_many() -> None:
    shares = LoopTimeShares()
    for number in range(5000):
        shares.seen(f"tenant{number}", number)
        shares.use(f"tenant{number}", 1.0, number)
    assert len(shares._seen) == len(shares._left) == 1000


def test_a_tenant_is_busy_when_it_has_used_a_part_of_its_burst_beside_others() -> None:
    shares = LoopTimeShares()
    shares.seen("acme", 0.0)
    shares.use("acme", 0.1, 0.0)
    assert not shares.is_busy("acme", 0.0), "nobody else is there"
    shares.seen("rival", 0.0)
    assert shares.is_busy("acme", 0.0)
    assert shares.wait_s("acme", 0.0) == 0
    assert not shares.is_busy("acme", 0.5), "its share has come back"
    assert not shares.is_busy("rival", 0.0)
