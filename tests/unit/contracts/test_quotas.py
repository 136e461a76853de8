"""Decisions about quotas: what is left of a rate, what a refusal says, and whose limits hold."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, SaccadeError
from contracts.quotas import (
    QUOTAS,
    QuotaLimits,
    QuotaName,
    TenantQuotas,
    kept_bytes,
    level_refusal,
    part_of_reserve,
    rate_refusal,
    take,
)
from contracts.token_bucket import Tokens
from kit.auth.quotas import Quotas

REQUESTS = QUOTAS[QuotaName.REQUESTS]
JOBS = QUOTAS[QuotaName.UNFINISHED_JOBS]
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def test_every_quota_is_in_the_table() -> None:
    assert set(QUOTAS) == set(QuotaName)
    assert all(quota.default > 0 for quota in QUOTAS.values())


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), max_size=60))
def test_a_rate_never_gives_more_than_its_burst_and_what_time_refilled(steps: list[tuple[float, int]]) -> None:
    tokens: Tokens | None = None
    now = taken = 0.0
    for pause_s, count in steps:
        now += pause_s
        tokens, wait_s = take(REQUESTS, 10, tokens, now, count)
        taken += 0 if wait_s else count
        assert taken <= 10 * REQUESTS.burst_periods + 10 * now + 1e-6


@given(st.floats(0.001, 1000), st.integers(1, 100))
def test_after_the_wait_that_is_told_so_much_is_there(at_s: float, count: int) -> None:
    empty = Tokens(0.0, at_s)
    _, wait_s = take(REQUESTS, 10, empty, at_s, count)
    assert wait_s > 0
    _, again = take(REQUESTS, 10, empty, at_s + wait_s + 1e-6, count)
    assert again == 0.0


def test_a_rate_of_nothing_says_to_wait_for_its_period() -> None:
    _, wait_s = take(QUOTAS[QuotaName.EVENTS], 0, None, 5.0, 1)
    assert wait_s == 60.0


def test_a_refused_rate_says_what_and_until_when() -> None:
    error = rate_refusal(REQUESTS, 10, 1.5, NOW)
    assert (error.code, error.kind.status, error.kind.retryable) == (ErrorCode.RATE_LIMITED, 429, True)
    assert error.message == "You have used your quota of 10 requests a second; go on in 1.5 s."
    assert error.extra["quota"] == {
        "name": "requests",
        "limit": 10,
        "used": 10,
        "until": "2026-11-23T12:00:01.500+00:00",
    }
    assert error.extra["retry_after_s"] == 1.5


def test_a_refused_level_says_what_is_used_and_what_frees_it() -> None:
    assert level_refusal(JOBS, 5, 4) is None
    error = level_refusal(JOBS, 5, 5)
    assert error is not None
    assert (error.code, error.kind.status, error.kind.retryable) == (ErrorCode.QUOTA_EXCEEDED, 409, False)
    assert error.message == "Your quota is 5 unfinished jobs; 5 are in use."
    assert error.hint == "Wait until jobs end, or cancel some."
    assert error.extra["quota"] == {"name": "unfinished_jobs", "limit": 5, "used": 5, "until": None}


def test_a_tenants_own_entry_counts_before_that_of_all_and_this_before_the_table() -> None:
    limits = QuotaLimits.of(
        [
            TenantQuotas(tenant="*", quotas={QuotaName.SESSIONS: 3, QuotaName.UNFINISHED_JOBS: 7}),
            TenantQuotas(tenant="acme", quotas={QuotaName.SESSIONS: 9}),
        ]
    )
    quotas = Quotas(limits)
    assert quotas.limit("acme", QuotaName.SESSIONS) == 9
    assert quotas.limit("acme", QuotaName.UNFINISHED_JOBS) == 7
    assert quotas.limit("rival", QuotaName.SESSIONS) == 3
    assert quotas.limit("rival", QuotaName.REQUESTS) == REQUESTS.default


def test_one_tenants_rate_is_not_another_ones() -> None:
    clock = 0.0
    quotas = Quotas(QuotaLimits({"*": {QuotaName.REQUESTS: 1}}), lambda: clock)
    quotas.take("acme", QuotaName.REQUESTS, 10)
    with pytest.raises(SaccadeError):
        quotas.take("acme", QuotaName.REQUESTS)
    quotas.take("rival", QuotaName.REQUESTS)
    assert quotas.refused == {("acme", QuotaName.REQUESTS): 1}
    clock = 1.0
    quotas.take("acme", QuotaName.REQUESTS)


def test_what_tenants_may_have_of_a_stream_that_is_nearly_full_is_an_even_part_of_its_reserve() -> None:
    assert part_of_reserve(749, 1000, 4) is None
    assert part_of_reserve(750, 1000, 4) == 50
    assert part_of_reserve(1000, 1000, 0) == 200
    assert part_of_reserve(5, 0, 1) is None, "a stream that is not limited"


USED = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 1000), min_size=1)


@given(USED, st.integers(0, 3000), st.integers(1, 1000))
def test_what_tenants_keep_of_a_stream(used: dict[str, int], room: int, limit: int) -> None:
    kept = kept_bytes(used, dict.fromkeys(used, limit), room)
    assert kept.keys() == used.keys()
    assert sum(kept.values()) <= room
    assert all(kept[tenant] <= min(used[tenant], limit) for tenant in used)
    # Who loses more than its limit says has no less than anybody else, so who has least loses last.
    cut = [tenant for tenant in used if kept[tenant] < min(used[tenant], limit)]
    assert all(kept[tenant] + 1 >= kept[other] for tenant in cut for other in used)
    assert not cut or sum(kept.values()) > room - len(used), "no more is deleted than there is no room for"
