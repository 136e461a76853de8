"""Cost of an attempt and the cost cap: seconds times the dated price."""

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
from services.dispatcher.attempts.recovered_result import recovered_result
from services.dispatcher.costs.attempt_cost import (
    attempt_cost,
    billed_seconds,
    is_cap_spent,
    usd_per_s,
    will_exceed_cap,
)

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
    assert price_usd_per_s("A10G") == price_usd_per_s("A10"), "Modal's older name is accepted"


def test_larger_devices_cost_more() -> None:
    ladder = ["cpu", "T4", "L4", "A10", "L40S", "A100-80GB", "H100", "H200", "B200"]
    prices = [price_usd_per_s(device) for device in ladder]
    assert prices == sorted(set(prices))


def test_a_device_without_a_price_is_an_error() -> None:
    with pytest.raises(SaccadeError) as caught:
        price_usd_per_s("Z9000")
    assert caught.value.code is ErrorCode.INTERNAL
    assert "Z9000" in caught.value.message


def test_a_local_worker_is_free_on_any_device() -> None:
    assert usd_per_s("local", "cpu") == 0.0
    assert usd_per_s("modal", "cpu") > 0.0
    assert attempt_cost(job(executor="local", device="cpu"), 50.0) == Cost(device="cpu", seconds=50, usd=0)


def test_billed_seconds_and_cost() -> None:
    assert billed_seconds(job(), NOW) == 100.0
    assert billed_seconds(replace(job(), started_at=None), NOW) == 0.0
    assert billed_seconds(replace(job(), started_at=NOW + timedelta(seconds=5)), NOW) == 0.0, "clocks differ"
    assert attempt_cost(job(), 100.0).usd == pytest.approx(0.1097)


@pytest.mark.parametrize(
    ("cap_usd", "exceeds"), [(None, False), (0.2, False), (0.112, False), (0.1105, True), (0.10, True), (0.0, True)]
)
def test_the_time_to_stop_counts_towards_the_cap(cap_usd: float | None, exceeds: bool) -> None:
    assert will_exceed_cap(job(cap_usd), NOW, reaction_s=2.0) is exceeds


def test_a_settled_attempt_is_not_counted_twice() -> None:
    done = replace(job(0.15), costs={"run_1": Cost(device="H100", seconds=100, usd=0.1097)})
    assert not will_exceed_cap(done, NOW, reaction_s=2.0)


def test_a_spent_cap_allows_no_further_attempt() -> None:
    cost = Cost(device="H100", seconds=100, usd=0.1097)
    assert is_cap_spent(replace(job(0.1), costs={"run_0": cost}))
    assert not is_cap_spent(replace(job(0.2), costs={"run_0": cost}))
    assert not is_cap_spent(job(0.0)), "no attempt has cost anything yet"
    assert not is_cap_spent(replace(job(), costs={"run_0": cost}))


class SingleManifestBucket(Bucket):
    """Bucket with the manifest of one run."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def key(self, *parts: str) -> str:
        return "/".join(parts)

    async def get(self, _: str) -> bytes:
        return self.manifest.model_dump_json().encode()


@pytest.mark.anyio
async def test_a_result_recovered_from_its_manifest_includes_the_cost_of_start_up() -> None:
    attempt = replace(job(), usd_per_s=0.001, billed_since=NOW - timedelta(seconds=107))
    manifest = Manifest(
        job_id="job_1", tenant="acme", workload="echo", workload_version="1", attempt=1, run_id="run_1",
        created_at=NOW, duration_s=90.0, device="H100", result={}, artifacts=[],
    )  # fmt: skip
    recovered = await recovered_result(SingleManifestBucket(manifest), attempt)
    assert recovered
    assert recovered.cost == Cost(device="H100", seconds=97.0, startup_s=7.0, usd=0.097)
