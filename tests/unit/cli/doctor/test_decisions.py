"""What ``saccade doctor`` decides from what it was told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli.doctor.clock import judge_clock, read_rfc3339
from cli.doctor.disk import judge_space
from cli.doctor.modal import AppHistory, judge_apps
from cli.doctor.programs import judge_version
from cli.doctor.report_line import ReportLine, fail
from cli.doctor.services import Asked, judge_public, judge_versions
from cli.doctor.settings import compose_defaults
from cli.doctor.streams import differences, judge_quorum, judge_streams
from cli.doctor.variables import judge_names, judge_passed_on, judge_secrets
from contracts.limits import GIB, MIB
from contracts.streams import EVENTS, PROGRESS
from kit.bus.connection import stream_config

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("server_s", "outcome"),
    [(0.0, "ok"), (2.0, "ok"), (-3.0, "ok"), (30.0, "warn"), (-30.0, "warn"), (600.0, "FAIL"), (-600.0, "FAIL")],
)
def test_clocks_are_compared(server_s: float, outcome: str) -> None:
    received = NOON + timedelta(seconds=0.2)
    found = judge_clock("clock", NOON + timedelta(seconds=server_s), NOON, received, 1.0)
    assert found.outcome == outcome


def test_an_answer_that_took_long_is_no_difference_of_clocks() -> None:
    assert judge_clock("clock", NOON, NOON, NOON + timedelta(seconds=90), 1.0).outcome == "ok"
    assert judge_clock("clock", NOON + timedelta(seconds=90), NOON, NOON + timedelta(seconds=90), 1.0).outcome == "ok"


def test_the_times_of_nats_are_read() -> None:
    assert read_rfc3339("2026-11-23T12:00:00.123456789Z") == NOON.replace(microsecond=123456)
    assert read_rfc3339("2026-11-23T12:00:00Z") == NOON


def _group(leader: str | None, *replicas: dict[str, Any], copies: int = 3) -> dict[str, Any]:
    return {"config": {"num_replicas": copies}, "cluster": {"leader": leader, "replicas": list(replicas)}}


@pytest.mark.parametrize(
    ("info", "outcome", "says"),
    [
        (_group("one", {"name": "two", "current": True}, {"name": "three", "current": True}), "ok", "3 nodes"),
        (_group(None), "FAIL", "no node leads EVENTS"),
        (_group("one", {"name": "two", "offline": True}, {"name": "three", "current": True}), "warn", "two"),
        (_group("one", {"name": "two", "current": False}), "warn", "behind in EVENTS"),
        (_group("one", copies=1), "warn", "one copy"),
    ],
)
def test_a_cluster_needs_leaders_and_replicas(info: dict[str, Any], outcome: str, says: str) -> None:
    (found,) = judge_quorum({"EVENTS": info}, nodes=3)
    assert (found.outcome, says in found.says) == (outcome, True), found


def test_only_what_is_declared_is_compared() -> None:
    config = stream_config(EVENTS, 1) | {"metadata": {"epochs": "x"}, "compression": "none", "max_consumers": -1}
    assert differences(EVENTS, config, 1) == {}
    # Once with replicas, PROGRESS stays safer than it has to be; an imported window is sealed.
    safer = {name: value for name, value in stream_config(PROGRESS, 1).items() if name != "persist_mode"}
    assert differences(PROGRESS, safer, 1) == {}
    assert differences(EVENTS, config | {"sealed": True, "max_age": 1}, 1) == {}
    assert set(differences(EVENTS, config, 3)) == {"num_replicas"}


def test_a_fault_that_streams_share_is_one_line() -> None:
    infos = {one.name: {"config": stream_config(one, 3), "state": {"bytes": 0}} for one in (EVENTS, PROGRESS)}
    (found,) = judge_streams(infos, 1)
    assert found.says == "EVENTS, PROGRESS: num_replicas is 3 instead of 1"
    assert "NATS_REPLICAS" in found.fix


def test_what_cannot_be_changed_has_another_fix_and_a_full_stream_is_told() -> None:
    info = {"config": stream_config(EVENTS, 1) | {"storage": "memory"}, "state": {"bytes": 15.9 * GIB}}
    differs, full = judge_streams({"EVENTS": info}, 1)
    assert (differs.outcome, "restore" in differs.fix) == ("FAIL", True)
    assert (full.outcome, full.says.startswith("EVENTS is 99 % full")) == ("warn", True)


def test_names_are_compared_with_those_that_are_known() -> None:
    known = ["GATEWAY_PORT", "SACCADE_API_KEY", "S3_BUCKET", "NATS_PASSWORD"]
    given = ["GATEWAY_PORTT", "SACADE_API_KEY", "S3_BUCKT", "GATEWAY_SOMETHING_ELSE", "HOME", "GATEWAY_SERVICE_HOST"]
    found = judge_names([*given, *known, "NATS_CONTEXT"], known)
    assert [(one.says.split()[0], one.outcome) for one in found] == [
        ("GATEWAY_PORTT", "FAIL"),
        ("GATEWAY_SOMETHING_ELSE", "warn"),
        ("S3_BUCKT", "FAIL"),
        ("SACADE_API_KEY", "FAIL"),
    ]
    assert judge_passed_on(["GATEWAY_PORT", "OTHER"], known, ["S3_BUCKET"])[0].says.startswith("GATEWAY_PORT ")


def test_secrets_are_judged_by_who_reaches_the_server() -> None:
    given = {"NATS_PASSWORD": "development-only", "S3_SECRET_ACCESS_KEY": "change-me"}
    assert [one.outcome for one in judge_secrets(given, {})] == ["FAIL", "warn"]
    assert [one.outcome for one in judge_secrets(given, {"SACCADE_ALLOWED_HOSTS": "a.example"})] == ["FAIL", "FAIL"]
    assert judge_secrets({"NATS_PASSWORD": "long and random"}, {"SACCADE_ALLOWED_HOSTS": "a.example"}) == []


def test_a_compose_file_names_variables_and_their_defaults() -> None:
    text = 'a: "${ONE:-first}" b: ${TWO} c: "${THREE:-}" d: ${ONE:-other} e: $$(stat)'
    assert compose_defaults(text) == {"ONE": "first", "TWO": "", "THREE": ""}


def test_versions_of_services_are_compared_with_each_other_and_with_this_command() -> None:
    assert judge_versions({"gateway": "a", "notifier": "a"}, "a")[0].outcome == "ok"
    assert judge_versions({"gateway": "a", "notifier": "a"}, "b")[0].outcome == "warn"
    assert judge_versions({"gateway": "a", "notifier": "b"}, "a")[0].outcome == "FAIL"
    assert "notifier older" in judge_versions({"gateway": "a", "notifier": None}, "a")[0].says


@pytest.mark.parametrize(
    ("answer", "outcome", "fix"),
    [
        (Asked(connected=True, status=200, body={"service": "gateway", "checks": {}}), "ok", ""),
        (Asked(connected=True, status=403, body={"code": "host_not_allowed"}), "FAIL", "SACCADE_ALLOWED_HOSTS"),
        (Asked(connected=True, status=200, body={}), "FAIL", "reverse proxy"),
        (Asked(reason="its name does not resolve"), "FAIL", "SACCADE_PUBLIC_URL"),
    ],
)
def test_a_public_address_leads_to_the_gateway_or_says_what_to_change(answer: Asked, outcome: str, fix: str) -> None:
    found = judge_public("SACCADE_PUBLIC_URL", "https://vision.example.com", answer)
    assert (found.outcome, fix in found.fix) == (outcome, True)


def test_deployments_are_compared_by_their_newest_tag() -> None:
    now, before = '[{"version": "v2", "tag": "new"}, {"version": "v1", "tag": "old"}]', '[{"version": "v1"}]'
    found = judge_apps({"one": AppHistory(0, now)}, "new")
    assert [one.outcome for one in found] == ["ok", "ok"]
    (_, older) = judge_apps({"one": AppHistory(0, now), "two": AppHistory(0, before)}, "new")
    assert older.says == "of another version than this checkout (new): two (none)"
    assert older.fix == "Deploy with: saccade modal deploy --worker two."
    (broken,) = judge_apps({"one": AppHistory(1, "the server is away")}, "new")
    assert "the server is away" in broken.says
    (token,) = judge_apps({"one": AppHistory(1, "Token missing. Could not authenticate")}, "new")
    assert token.check == "modal token"


def test_space_is_judged_by_what_is_needed_to_start_and_what_the_streams_may_take() -> None:
    assert judge_space(Path("/data"), 50 * GIB, 40 * GIB).outcome == "ok"
    assert judge_space(Path("/data"), 20 * GIB, 40 * GIB).outcome == "warn"
    assert judge_space(Path("/data"), 100 * MIB, 0).outcome == "FAIL"


def test_programs_are_compared_by_numbers() -> None:
    assert judge_version("rclone", (1, 9), (1, 75), "fix").outcome == "FAIL"
    assert judge_version("rclone", (1, 100), (1, 75), "fix").outcome == "ok"


def test_a_line_has_one_line_and_no_secret() -> None:
    found = fail("bus", "it says:\n password top-secret-value is wrong.", "Correct\nit.").without(
        ["top-secret", "top-secret-value", "bus"]
    )
    assert found.line == "FAIL  bus: it says: password (secret) is wrong. Correct it."
    assert ReportLine("bus", "ok", "well").line == "ok    bus: well"
