"""What the alerts and the dashboard ask for, of services that run: names, labels, and an alert that fires.

Which values make an alert fire, and for how long, is in tests/alerts.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from kit.service_metrics import COUNTERS
from tests.harness.servers.cluster_services import ClusterServices
from tests.harness.servers.embedded import HOST, ROOT, EmbeddedS3, NatsServer, free_port
from tests.harness.servers.gateway import keys_file
from tests.harness.servers.loopback_tls import NO_CERTIFICATES
from tests.harness.servers.prometheus import Prometheus, is_installed

pytestmark = pytest.mark.anyio
#: More than deploy/alerts.yml takes for normal.
FAILING_JOBS = 6
#: Jobs that fail are told of at once, their dead letters when they have been there for a while.
EXPECTED = {
    ("SaccadeJobsFail", "failure=broken"): "firing",
    ("SaccadeDeadLetters", "kind=job,service=dispatcher"): "pending",
}
#: Labels that Prometheus adds.
OF_PROMETHEUS = {"job", "instance"}
#: No Modal is called here. Its labels are those of the table from which every service makes its counters.
WITHOUT_SAMPLES = {"saccade_modal_errors_total"}
_HEADERS = {"Authorization": "Bearer acme.secret"}


def asked() -> Iterator[tuple[str, set[str], set[str]]]:
    """Yield of each alert and query of the dashboard: its name, its metrics, and the labels that these need."""
    groups = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        told = " ".join(rule["annotations"].values())
        named = set(re.findall(r"\$labels\.(\w+)", told))
        queried = " ".join(re.findall(r'query \\?"([^"]*)"', told))
        yield rule["alert"], metrics_in(f"{rule['expr']} {queried}"), labels_in(rule["expr"]) | named
    for panel in json.loads((ROOT / "deploy" / "grafana" / "saccade.json").read_text())["panels"]:
        for target in panel.get("targets", []):
            named = set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"]))
            yield panel["title"], metrics_in(target["expr"]), labels_in(target["expr"]) | named


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:saccade|process)_[a-z_]+", expression))


def labels_in(expression: str) -> set[str]:
    grouped = {name.strip() for names in re.findall(r"\bby \(([^)]*)\)", expression) for name in names.split(",")}
    matched = {name for part in re.findall(r"{([^}]*)}", expression) for name in re.findall(r"(\w+)\s*[=!]", part)}
    return grouped | matched


async def provoke(services: ClusterServices, http: httpx.AsyncClient) -> None:
    """Let jobs fail, a webhook's receiver be away, and a tenant ask for more than its quota."""
    receiver = {"url": f"http://{HOST}:{free_port()}/"}
    (await http.post(f"{services.url('notifier')}/v1/webhooks", json=receiver)).raise_for_status()
    refused = await http.post(f"{services.url('notifier')}/v1/webhooks", json=receiver)
    assert refused.json()["code"] == "too_many_webhooks"
    jobs = [
        (
            await http.post(
                f"{services.url('gateway')}/v1/jobs", json={"workload": "scripted", "params": {"script": ["crash"]}}
            )
        ).raise_for_status()
        for _ in range(FAILING_JOBS)
    ]
    async with asyncio.timeout(120):
        for job in jobs:
            url = f"{services.url('gateway')}/v1/jobs/{job.json()['id']}"
            while (await http.get(url)).json()["state"] != "failed":
                await asyncio.sleep(0.2)


async def exported(services: ClusterServices, http: httpx.AsyncClient) -> dict[str, set[str]]:
    """Return the labels of every series of the services, by name."""
    found: dict[str, set[str]] = {}
    for name in services.ports:
        text = (await http.get(f"{services.url(name)}/metrics")).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = found.setdefault(sample.name, set(sample.labels))
                assert labels == set(sample.labels), sample
    return found


async def test_the_services_export_what_is_asked_for_and_an_alert_fires(
    nats_server: NatsServer, own_s3_server: EmbeddedS3, tmp_path: Path
) -> None:
    keys = keys_file(tmp_path, "acme")
    keys.write_text(json.dumps([*json.loads(keys.read_text()), {"tenant": "acme", "quotas": {"webhooks": 1}}]))
    settings = {"SACCADE_API_KEYS_FILE": str(keys)}
    async with (
        ClusterServices(nats_server, own_s3_server.settings, tmp_path, **settings) as services,
        httpx.AsyncClient(trust_env=False, verify=NO_CERTIFICATES, timeout=30, headers=_HEADERS) as http,
    ):
        targets = [f"{HOST}:{port}" for port in services.ports.values()]
        prometheus = Prometheus(tmp_path / "prometheus", targets) if is_installed() else None
        with prometheus or contextlib.nullcontext():
            if prometheus:
                all_is_well = "query?query=sum(up)%2Bsum(saccade_dispatcher_leading)"
                await asyncio.to_thread(
                    prometheus.wait_until,
                    lambda: value(prometheus, all_is_well) == len(targets) + 1 and prometheus.states() == {},
                )
            await provoke(services, http)
            if prometheus:
                await asyncio.to_thread(prometheus.wait_until, lambda: set(EXPECTED) <= set(prometheus.states()))
                assert prometheus.states() == EXPECTED
                rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
                assert {rule["health"] for rule in rules} == {"ok"}, rules
        upload = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 9}
        made = (await http.post(f"{services.url('gateway')}/v1/uploads", json=upload)).raise_for_status().json()
        own_s3_server.__exit__()
        await http.post(f"{services.url('gateway')}/v1/uploads/{made['id']}/complete", json={})
        labels = await exported(services, http)
    labels |= {name: set(COUNTERS[name.removesuffix("_total")][1]) for name in WITHOUT_SAMPLES}
    lacking = [
        (name, metric, needed - labels.get(metric, set()) - OF_PROMETHEUS)
        for name, metrics, needed in asked()
        for metric in metrics
        if metric not in labels or needed - labels[metric] - OF_PROMETHEUS
    ]
    assert lacking == []
    if not prometheus:
        pytest.skip("prometheus is not installed: names and labels are right, that an alert fires was not tried")


def value(prometheus: Prometheus, query: str) -> float:
    """Return the value of a query with one result; -1 while there is none."""
    result = prometheus.get(query)["result"]
    return float(result[0]["value"][1]) if result else -1
