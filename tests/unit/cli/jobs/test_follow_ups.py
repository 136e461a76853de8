"""The command of the job that a result leads to: laps that were found, compared with each other."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any, cast

from saccade_client import Client, JobView

from cli.jobs.follow_ups import next_commands, proposed
from cli.jobs.submission import parse_params
from modal_workers.lap_compare.spec import WORKLOAD as LAP_COMPARE
from modal_workers.lap_detection.spec import WORKLOAD as LAP_DETECTION


class Server:
    """The list of workloads, as the gateway gives it."""

    def workloads(self) -> list[dict[str, Any]]:
        return [
            {
                "name": workload.name,
                "inputs": [{"name": each.name} for each in workload.inputs],
                "follow_ups": [asdict(each) for each in workload.follow_ups],
            }
            for workload in (LAP_DETECTION, LAP_COMPARE)
        ]


def detected(laps: list[dict[str, Any]], **changed: Any) -> JobView:
    fields = {
        "id": "job_1",
        "workload": "lap_detection",
        "state": "succeeded",
        "created_at": "2026-01-02T03:04:05Z",
        "inputs": {"video": [{"filename": "session.mp4", "upload_id": "upl_1"}]},
        "result": {"laps": laps},
    }
    return JobView.model_validate(fields | changed)


LAPS = [
    {"start_s": 2.0, "end_s": 92.5, "slow": True},
    {"start_s": 92.5, "end_s": 152.0, "slow": False},
    {"start_s": 152.0, "end_s": 211.0, "slow": False},
]


def commands_of(job: JobView) -> list[str]:
    return next_commands(cast("Client", Server()), job)


def test_the_command_compares_the_first_two_laps_that_are_not_slow() -> None:
    (command,) = commands_of(detected(LAPS))
    words = shlex.split(command)
    assert words[:5] == ["saccade", "submit", "lap_compare", "upl_1", "upl_1"]
    params = LAP_COMPARE.params.model_validate(parse_params([words[words.index("-p") + 1]]))
    assert params.model_dump()["segments"] == {
        "reference": {"start_s": 92.5, "end_s": 152.0},
        "other": {"start_s": 152.0, "end_s": 211.0},
    }


def test_a_slow_lap_is_taken_where_there_are_too_few() -> None:
    assert proposed(LAPS[:2], 2, "slow") == [0, 1]


def test_without_two_laps_or_a_result_there_is_no_command() -> None:
    assert commands_of(detected(LAPS[:1])) == []
    assert commands_of(detected(LAPS, state="failed", result=None)) == []
