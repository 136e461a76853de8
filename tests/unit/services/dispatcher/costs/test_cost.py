"""Seconds times the dated price."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import Cost, JobSubmitted
from contracts.job import Job
from contracts.manifest import Manifest
from contracts.prices import PRICES, price_usd_per_s
from kit.bucket import Bucket
from services.dispatcher.costs.cost import cap_is_near, cap_is_spent, cost_of, seconds_of, usd_per_s
from services.dispatcher.lifecycle.recovered_result import left_result

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def job(cap_usd: float | None = None, executor: str = "modal", device: str = "H100") -> Job:
    submitted = JobSubmitted(
        workload="echo", workload_version="1", inputs={}, params={}, deadline=NOW, max_cost_usd=cap_usd
    )
    return Job(
        id="job_1",
        tenant="acme",
        submitted=submitted,
        created_at=NOW,
        executor=executor,
        device=device,
        run_id="run_1",
        started_at=NOW - timedelta(seconds=100),
    )


def test_every_price_is_dated_and_has_a_source() -> None:
    for device, price in PRICES.items():
        assert price.usd_per_s >= 0, device
        assert price.read_on.year >= 2026
        assert price.source
    assert price_usd_per_s("local") == 0.0
    assert price_usd_per_s("A10G") == price_usd_per_s("A10"), "Modal's older name is taken"


def test_larger_devices_cost_more() -> None:
    ladder = ["cpu", "T4", "L4", "A10", "L40S", "A100-80GB", "H100", "H200", "B200"]
    prices = [price_usd_per_s(device) for device in ladder]
    assert prices == sorted(set(prices))


def test_nothing_runs_unpriced() -> None:
    with pytest.raises(SaccadeError) as caught:
        price_usd_per_s("Z9000")
    assert caught.value.code is ErrorCode.INTERNAL
    assert "Z9000" in caught.value.message


def test_a_local_worker_is_free_whatever_it_runs_on() -> None:
    assert usd_per_s("local", "cpu") == 0.0
    assert usd_per_s("modal", "cpu") > 0.0
    assert cost_of(job(executor="local", device="cpu"), 50.0) == Cost(device="cpu", seconds=50, usd=0)


def test_seconds_and_dollars() -> None:
    assert seconds_of(job(), NOW) == 100.0
    assert seconds_of(replace(job(), started_at=None), NOW) == 0.0
    assert seconds_of(replace(job(), started_at=NOW + timedelta(seconds=5)), NOW) == 0.0, "clocks differ"
    assert cost_of(job(), 100.0).usd == pytest.approx(0.1097)


@pytest.mark.parametrize(
    ("cap_usd", "near"), [(None, False), (0.2, False), (0.112, False), (0.1105, True), (0.10, True), (0.0, True)]
)
def test_a_cap_is_near_when_stopping_takes_too_long(cap_usd: float | None, near: bool) -> None:
    assert cap_is_near(job(cap_usd), NOW, reaction_s=2.0) is near


def test_an_attempt_that_was_accounted_for_is_not_counted_twice() -> None:
    done = replace(job(0.15), costs={"run_1": Cost(device="H100", seconds=100, usd=0.1097)})
    assert not cap_is_near(done, NOW, reaction_s=2.0)


def test_a_spent_cap_allows_no_further_attempt() -> None:
    cost = Cost(device="H100", seconds=100, usd=0.1097)
    assert cap_is_spent(replace(job(0.1), costs={"run_0": cost}))
    assert not cap_is_spent(replace(job(0.2), costs={"run_0": cost}))
    assert not cap_is_spent(job(0.0)), "what has cost nothing may cost nothing"
    assert not cap_is_spent(replace(job(), costs={"run_0": cost}))


class OneManifest(Bucket):
    """A bucket with the manifest of one run."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def key(self, *parts: str) -> str:
        return "/".join(parts)

    async def get(self, _: str) -> bytes:
        return self.manifest.model_dump_json().encode()


@pytest.mark.anyio
async def test_a_success_that_only_its_manifest_tells_costs_its_start_up_too() -> None:
    one = replace(job(), usd_per_s=0.001, billed_since=NOW - timedelta(seconds=107))
    manifest = Manifest(
        job_id="job_1", tenant="acme", workload="echo", workload_version="1", attempt=1, run_id="run_1",
        created_at=NOW, duration_s=90.0, device="H100", result={}, artifacts=[],
    )  # fmt: skip
    done = await left_result(OneManifest(manifest), one)
    assert done
    assert done.cost == Cost(device="H100", seconds=97.0, startup_s=7.0, usd=0.097)
