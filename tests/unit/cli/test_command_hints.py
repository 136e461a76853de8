"""Hints on the command line name commands, options and files, never a route or a field of the API."""

from __future__ import annotations

import re

import pytest

from cli.command_hints import command_hint, field_hint, unreachable_hint
from contracts.errors import KINDS, ErrorCode

#: Written here once more, apart from the pattern that the code replaces by.
API = re.compile(r"\b(GET|POST|PUT|PATCH|DELETE)\b|/v1/|/docs\b|Authorization|Retry-After|cursor back|max_cost_usd\b")
#: Of a stream's frames and joints, which no command sends.
NEVER_SHOWN = {ErrorCode.JOINTS_INVALID}


@pytest.mark.parametrize("code", [code for code in ErrorCode if code not in NEVER_SHOWN])
def test_no_hint_asks_for_a_request(code: ErrorCode) -> None:
    hint = command_hint(code, KINDS[code].hint)
    assert hint
    assert not API.search(hint), hint
    assert hint[0].isupper() or hint[0] in "`-" or hint.startswith("preflight")


def test_what_is_true_for_everybody_stays_and_the_command_is_filled_in() -> None:
    hint = "lap_compare takes: sectors, flow. GET /v1/workloads has the schema."
    said = command_hint("unknown_parameter", hint, {"workload": "lap_compare"})
    assert said == "lap_compare takes: sectors, flow. `saccade workloads lap_compare` shows its parameters."
    ended = command_hint("job_already_ended", KINDS[ErrorCode.JOB_ALREADY_ENDED].hint, {"job_id": "job_1"})
    assert "saccade retry job_1" in ended
    full = KINDS[ErrorCode.STORAGE_FULL].hint
    assert command_hint("storage_full", full) == full


def test_a_refused_option_of_the_command_is_no_parameter_of_the_workload() -> None:
    assert "workloads" not in field_hint(KINDS[ErrorCode.INVALID_PARAMETER].hint)
    assert field_hint("Leave gpu out.") == "Leave --gpu out."
    assert field_hint("One of: T4, A10.") == "One of: T4, A10."


def test_only_a_server_of_this_machine_can_be_started() -> None:
    assert "saccade up" in unreachable_hint("http://127.0.0.1:8080")
    assert "saccade up" in unreachable_hint("http://localhost:8080")
    assert "saccade up" not in unreachable_hint("https://saccade.example")
