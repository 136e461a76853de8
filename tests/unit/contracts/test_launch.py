"""Jobs that are sessions' workers, and the subjects of telemetry requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.ids import new_id
from contracts.session import (
    SessionLaunch,
    job_id_of_session,
    session_launch_of,
    telemetry_delivery_subject,
    telemetry_request_subject,
)

SESSION, RUN = new_id("ses"), new_id("run")


def params(**changes: Any) -> dict[str, Any]:
    launch = SessionLaunch(
        session_id=SESSION, idle_timeout_s=1, max_length_s=1, opened_at=datetime.now(UTC), replay_of=None, params={}
    )
    return launch.model_dump(mode="json") | changes


def test_a_sessions_job_is_identified_by_its_parameters_and_its_uuid() -> None:
    launch = session_launch_of(job_id_of_session(SESSION), params(replay_of="ses_2"))
    assert launch is not None
    assert (launch.session_id, launch.replay_of) == (SESSION, "ses_2")


@pytest.mark.parametrize(
    "given",
    [{}, {"session_id": SESSION}, params(session_id="ses_01a1ff9d-3a22-7db6-87ae-98a61a830aba"), params(opened_at="x")],
)
def test_another_job_is_not_a_sessions_worker(given: dict[str, Any]) -> None:
    assert session_launch_of(job_id_of_session(SESSION), given) is None


def test_a_run_requests_and_receives_telemetry_on_its_own_subjects() -> None:
    assert telemetry_request_subject("acme", RUN, SESSION) == f"saccade.feed.acme.{RUN}.{SESSION}"
    assert telemetry_delivery_subject("acme", RUN, "x") == f"saccade.fed.acme.{RUN}.x"
    for run, session in (("*", SESSION), (RUN, ">"), (RUN, "a.b")):
        with pytest.raises(ValueError, match="not a run and a session"):
            telemetry_request_subject("acme", run, session)
