"""What a job will cost: the device it begins on, and seconds from history or from the declaration."""

from __future__ import annotations

from dataclasses import replace

import pytest

from contracts.cost_estimate import RunHistory, estimate, initial_device
from contracts.errors import SaccadeError
from contracts.prices import price_usd_per_s
from contracts.workload import Compute
from tests.harness.dispatch.dispatcher import workload

CPU_ONLY = workload()
ON_GPUS = replace(CPU_ONLY, compute=Compute(gpus=("T4", "A10", "A100"), typical_s=200.0))


@pytest.mark.parametrize(
    ("gpu", "executor", "environment", "device"),
    [
        (None, "local", "production", "cpu"),
        (None, "modal", "development", "T4"),
        (None, "modal", "production", "A10"),
        ("a10g", "modal", "development", "A10"),
        ("A100", "modal", "development", "A100-40GB"),
        ("A100", "local", "development", "cpu"),
    ],
)
def test_the_device_that_a_job_begins_on(gpu: str | None, executor: str, environment: str, device: str) -> None:
    assert initial_device(ON_GPUS, gpu, executor, environment) == device  # type: ignore[arg-type]


def test_without_gpus_a_workload_runs_on_a_cpu_and_takes_no_gpu() -> None:
    assert initial_device(CPU_ONLY, None, "modal", "production") == "cpu"
    with pytest.raises(SaccadeError, match="does not use a GPU"):
        initial_device(CPU_ONLY, "T4", "modal", "production")
    with pytest.raises(SaccadeError, match="There is no GPU 'T5'"):
        initial_device(ON_GPUS, "T5", "modal", "production")


def test_the_declaration_counts_until_there_is_a_history() -> None:
    first = estimate(ON_GPUS, "T4", "modal", None)
    assert (first.basis, first.runs, first.seconds) == ("spec", 0, 200.0)
    assert first.usd == pytest.approx(200 * price_usd_per_s("T4"), abs=1e-6)
    later = estimate(ON_GPUS, "T4", "modal", RunHistory(7, 31.5))
    assert (later.basis, later.runs, later.seconds) == ("history", 7, 31.5)
    assert later.usd == pytest.approx(31.5 * price_usd_per_s("T4"), abs=1e-6)


def test_the_operators_own_machine_costs_nothing() -> None:
    assert estimate(ON_GPUS, "cpu", "local", RunHistory(7, 31.5)).usd == 0


def test_a_container_that_is_kept_warm_has_its_price_in_the_estimate_and_none_on_the_operators_machine() -> None:
    kept = estimate(ON_GPUS, "L40S", "modal", None, warm="L40S")
    assert kept.warm_usd_per_hour == pytest.approx(3600 * price_usd_per_s("L40S"))
    assert kept.usd == estimate(ON_GPUS, "L40S", "modal", None).usd, "it is paid for by nobody's job"
    assert estimate(ON_GPUS, "cpu", "local", None, warm="L40S").warm_usd_per_hour == 0
