"""Workers that are deployed to Modal: every worker, and the stages in place of a pipeline."""

from __future__ import annotations

from cli.operators.modal import workers_of
from modal_workers import catalog


def test_a_pipeline_is_deployed_as_its_stages_each_once() -> None:
    stages = [stage.work for stage in catalog.workload("nerf").stages]
    assert workers_of(["nerf"]) == stages
    assert workers_of(["lap_compare", stages[0], "nerf"]) == ["lap_compare", *stages]
    assert "nerf" not in workers_of(list(catalog.workloads()))
    assert workers_of(["no_such"]) == ["no_such"], "an unknown name is rejected later"
