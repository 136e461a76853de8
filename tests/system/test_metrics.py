"""The metrics of the running services are those that the documents, the alerts and the dashboard name."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import psutil
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cli.embedded.processes import children_of
from tests.system.embedded import ROOT, up, wait_until

SERVICES = ("gateway", "dispatcher", "notifier")
#: Labels by which a metric may be split: their values are few, and none is an id or comes from a client.
BOUNDED = {
    "kind", "service", "state", "method", "route", "status", "quota", "tenant", "verdict", "stream", "lease", "change",
    "operation", "error", "outcome", "reason", "type", "workload", "failure", "le", "consumer", "result", "held_by",
    "implementation", "major", "minor", "patchlevel", "version",
}  # fmt: skip
#: A tenant is a label of what the operator limits by tenant, and of nothing else.
BY_TENANT = {"saccade_quota_refused", "saccade_stream_quota_deleted_bytes"}


def _port(process: psutil.Process, service: str) -> int:
    return int(process.environ()[f"{service.upper()}_PORT"])


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run the system and read the metrics of each service."""
    with up(tmp_path_factory.mktemp("metrics") / "data") as system:
        url = system.ready()["url"]
        httpx.get(f"{url}/v1/jobs", trust_env=False, timeout=30).raise_for_status()
        environments = [process for process in children_of(system.data) if "GATEWAY_PORT" in process.environ()]
        ports = {service: _port(environments[0], service) for service in SERVICES}

        def read(service: str) -> str:
            return httpx.get(f"http://127.0.0.1:{ports[service]}/metrics", trust_env=False, timeout=30).text

        wait_until(lambda: 'saccade_stream_bytes{stream="EVENTS"}' in read("gateway"), "the streams are read", 30)
        found = {
            service: {family.name: family for family in text_string_to_metric_families(read(service))}
            for service in SERVICES
        }
        assert system.stop() == 0
    return found


def _names(family: Any) -> set[str]:
    """Return the names by which a query asks for a metric."""
    if family.type == "counter":
        return {f"{family.name}_total"}
    if family.type == "histogram":
        return {f"{family.name}_{part}" for part in ("bucket", "count", "sum")}
    return {family.name}


def _documented() -> dict[tuple[str, str], tuple[str, ...]]:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", _document(), re.MULTILINE)
    return {
        (service, name): (kind, text.strip())
        for name, kind, _, services, text in rows
        for service in (SERVICES if services.strip() == "all" else services.strip().split(", "))
    }


def _document() -> str:
    return (ROOT / "docs" / "metrics.md").read_text()


def test_the_document_says_what_the_services_give(families: dict[str, dict[str, Any]]) -> None:
    given = {
        (service, next(iter(_names(family))) if family.type == "counter" else family.name): (
            family.type,
            family.documentation.strip().rstrip("."),
        )
        for service, found in families.items()
        for family in found.values()
        if not family.name.startswith(("process_", "python_")) and not family.name.endswith("_created")
    }
    assert _documented() == given


def test_labels_are_bounded(families: dict[str, dict[str, Any]]) -> None:
    used = {
        (family.name, label)
        for found in families.values()
        for family in found.values()
        for sample in family.samples
        for label in sample.labels
    }
    assert {(name, label) for name, label in used if label not in BOUNDED} == set()
    assert {name for name, label in used if label == "tenant"} <= BY_TENANT


def test_every_service_shows_its_process(families: dict[str, dict[str, Any]]) -> None:
    for found in families.values():
        assert {"process_cpu_seconds", "process_resident_memory_bytes", "process_open_fds", "process_max_fds"} <= set(
            found
        )
        assert found["saccade_tail_lag_events"].samples[0].value == 0


@pytest.mark.parametrize("file", ["alerts.yml", "grafana/saccade.json"])
def test_what_is_asked_for_exists(families: dict[str, dict[str, Any]], file: str) -> None:
    exist = {name for found in families.values() for family in found.values() for name in _names(family)}
    text = (ROOT / "deploy" / file).read_text()
    asked = _asked_by_alerts(text) if file.endswith(".yml") else _asked_by_dashboard(json.loads(text))
    assert len(asked) > 5
    assert asked - exist == set()


def _metrics_in(expressions: list[str]) -> set[str]:
    return {name for text in expressions for name in re.findall(r"\b(?:saccade|process)_[a-z_]+", text)}


def _asked_by_alerts(text: str) -> set[str]:
    groups = yaml.safe_load(text)["groups"]
    return _metrics_in([rule["expr"] for group in groups for rule in group["rules"]])


def _asked_by_dashboard(board: dict[str, Any]) -> set[str]:
    return _metrics_in([target["expr"] for panel in board["panels"] for target in panel.get("targets", [])])
