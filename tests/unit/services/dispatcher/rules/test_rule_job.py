"""The job that a rule submits: inputs, parameters and price, or why there is none."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobSubmitted
from contracts.upload import Upload
from contracts.workload import Compute, Input
from modal_workers.backends import Backends
from services.dispatcher.rules.rule_job import JobPlacement, rule_job
from tests.harness.rules.rule_events import EPOCH, LAPS, rule, upload, workload

GPU = workload("on_gpu", compute=Compute(gpus=("L4",), typical_s=100.0), requires=("numpy",), deadline_s=60.0)
PAUSED = workload("session", kind="session")
NONE = workload("closed", Input("clip", "video", "Clip"), kind="stage")
PLACEMENT = JobPlacement({one.name: one for one in (workload(), LAPS, GPU, PAUSED, NONE)})


def submitted(uploads: list[Upload], *name: str, placement: JobPlacement = PLACEMENT, **fields: Any) -> JobSubmitted:
    return rule_job(rule(*name, **fields), uploads, placement, now=EPOCH)


def test_a_job_has_everything_that_the_rule_says_and_names_rule_and_uploads() -> None:
    of, file = rule(priority=7, max_cost_usd=0.5, metadata={"a": "b"}, webhook_url="https://x"), upload("one.jpg")
    job = rule_job(of, [file], PLACEMENT, now=EPOCH, group_id="grp_1")
    assert job.rule
    assert (job.rule.rule_id, job.rule.upload_ids, job.rule.group_id) == (of.id, (file.id,), "grp_1")
    assert (job.priority, job.max_cost_usd, job.metadata, job.webhook_url) == (7, 0.5, {"a": "b"}, "https://x")
    assert (job.params, job.deadline) == ({"quality": 3, "engine": "plain"}, EPOCH + timedelta(hours=6))
    assert [given.filename for given in job.inputs["photos"]] == ["one.jpg"]


def test_uploads_fill_the_inputs_in_order() -> None:
    first, second = upload("1.mp4", "video"), upload("2.mp4", "video")
    job = submitted([first, second], "laps")
    assert {name: [given.upload_id for given in listed] for name, listed in job.inputs.items()} == {
        "reference": [first.id],
        "lap": [second.id],
    }
    turned = submitted([first, second], "laps", inputs=("lap", "reference"))
    assert turned.inputs["lap"][0].upload_id == first.id


def test_a_job_is_priced_where_it_runs() -> None:
    assert submitted([upload()], "on_gpu").estimated_usd == 0
    placement = JobPlacement(PLACEMENT.workloads, executor="modal", environment="production")
    job = submitted([upload()], "on_gpu", placement=placement, gpu="l4")
    assert job.gpu == "L4"
    assert job.estimated_usd > 0
    assert job.estimated_from == "spec"


@pytest.mark.parametrize(
    ("code", "uploads", "fields"),
    [
        (ErrorCode.UNKNOWN_WORKLOAD, [upload()], {"workload_name": "gone"}),
        (ErrorCode.UNKNOWN_WORKLOAD, [upload()], {"workload_name": "session"}),
        (ErrorCode.UNKNOWN_WORKLOAD, [upload()], {"workload_name": "closed"}),
        (ErrorCode.UNKNOWN_PARAMETER, [upload()], {"params": {"colour": 1}}),
        (ErrorCode.INVALID_PARAMETER, [upload()], {"params": {"quality": "high"}}),
        (ErrorCode.BACKEND_NOT_INSTALLED, [upload()], {"params": {"engine": "fast"}}),
        (ErrorCode.WRONG_INPUT_MEDIA, [upload("a.mp4", "video")], {}),
        (ErrorCode.UNKNOWN_INPUT, [upload()], {"inputs": ("clip",)}),
        (ErrorCode.MISSING_INPUT, [upload("a.mp4", "video")], {"workload_name": "laps"}),
        (ErrorCode.INVALID_PARAMETER, [upload()] * 9, {}),
        (ErrorCode.INVALID_PARAMETER, [upload()], {"gpu": "L4"}),
    ],
)
def test_what_cannot_be_submitted_says_why(code: ErrorCode, uploads: list[Upload], fields: dict[str, Any]) -> None:
    with pytest.raises(SaccadeError) as raised:
        rule_job(rule(**fields), uploads, PLACEMENT, now=EPOCH)
    assert raised.value.code is code


def test_a_workload_without_what_its_workers_need_is_not_submitted() -> None:
    lacking = JobPlacement(PLACEMENT.workloads, Backends(frozenset()))
    with pytest.raises(SaccadeError) as raised:
        submitted([upload()], "on_gpu", placement=lacking)
    assert raised.value.code is ErrorCode.BACKEND_NOT_INSTALLED
