"""Every path of the origin has one service; nginx in compose has the same table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from contracts.http_routes import is_event_stream, service_of

JOB = "job_0198c0de-0000-7000-8000-000000000000"
PATHS = [
    ("/v1/events", "notifier"),
    ("/v1/events/", "notifier"),
    ("/v1/tickets", "notifier"),
    ("/v1/webhooks", "notifier"),
    ("/v1/webhooks/whk_1/secret", "notifier"),
    ("/v1/webhookers", "gateway"),
    ("/v1/replays", "notifier"),
    ("/v1/replays/rpl_1/start", "notifier"),
    ("/v1/replays/rpl_1/stream", "notifier"),
    ("/v1/replays/rpl_1/events/", "notifier"),
    ("/v1/replayed", "gateway"),
    (f"/v1/jobs/{JOB}/events", "notifier"),
    ("/v1/sessions/ses_x/events", "notifier"),
    (f"/v1/jobs/{JOB}", "gateway"),
    (f"/v1/jobs/{JOB}/artifacts/events", "gateway"),
    ("/v1/jobs/a/b/events", "gateway"),
    ("/v1/eventsource", "gateway"),
    ("/v1/events\n", "gateway"),
    ("/v1/runs/run_x", "gateway"),
    ("/v1/runs/run_x/events", "gateway"),
    ("/health", "gateway"),
    ("/v1/sessions/ses_x/stream", "gateway"),
    ("", "gateway"),
    ("/metrics", None),
    ("/metrics/", None),
    ("/metrics2", "gateway"),
]


@pytest.mark.parametrize(("path", "service"), PATHS)
def test_each_path_has_one_service(path: str, service: str | None) -> None:
    assert service_of(path) == service


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/events", True),
        ("/v1/replays/r/stream", True),
        ("/v1/replays/r/start", False),
        ("/v1/jobs/j/events/", True),
        ("/v1/tickets", False),
        ("/v1/webhooks/events", False),
    ],
)
def test_event_streams_are_known_by_their_path(path: str, expected: bool) -> None:
    assert is_event_stream(path) is expected


@pytest.mark.parametrize(("path", "service"), [entry for entry in PATHS if not entry[0].endswith("\n") and entry[0]])
def test_nginx_has_the_same_table(path: str, service: str | None) -> None:
    """Evaluate the locations as nginx does: exact ones first, then regular expressions in their order."""
    text = (Path(__file__).parents[3] / "deploy" / "origin.conf").read_text()
    found = re.findall(r"location\s+(=|~)?\s*(\S+)\s+\{([^}]*)\}", text)
    exact = [body for kind, pattern, body in found if kind == "=" and pattern == path]
    matching = [body for kind, pattern, body in found if kind == "~" and re.search(pattern, path)]
    default = [body for kind, pattern, body in found if not kind and pattern == "/"]
    body = (exact + matching + default)[0]
    streams = (Path(__file__).parents[3] / "deploy" / "sse.conf").read_text()
    body = body.replace("include /etc/saccade/sse.conf", streams)
    target = re.search(r"proxy_pass http://\$(\w+)", body)
    assert (target.group(1) if target else None) == service
