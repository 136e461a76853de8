"""Gateway and notifier in processes of their own on a real bus and bucket, behind one origin."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from contracts.http_routes import service_of
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, free_port, wait_until_ready
from tests.harness.servers.loopback_tls import NO_CERTIFICATES, ONE_AUTHORITY
from tests.harness.streams.notifier import NotifierProcess

#: Webhooks go to this machine.
_WEBHOOKS = {
    "NOTIFIER_SECRET_KEY": "k" * 32,
    "NOTIFIER_WEBHOOK_HTTPS_ONLY": "false",
    "NOTIFIER_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
}


@dataclass
class RunningServices:
    """Running services and their addresses."""

    nats: EmbeddedNats
    s3: EmbeddedS3
    gateway_port: int
    notifier: NotifierProcess
    #: Pages from there may call.
    pages_origin: str

    @property
    def gateway_url(self) -> str:
        return f"http://{HOST}:{self.gateway_port}"

    def upload(self, body: bytes) -> str:
        """Upload a film and give its id."""
        announced = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": len(body)}
        upload = self._post("/v1/uploads", announced)
        httpx.put(
            upload["url"], content=body, headers=upload["headers"], trust_env=False, verify=NO_CERTIFICATES
        ).raise_for_status()
        return str(self._post(f"/v1/uploads/{upload['id']}/complete", {})["id"])

    def submit(self, inputs: dict[str, str]) -> str:
        """Submit a job and give its id."""
        return str(self._post("/v1/jobs", {"workload": "lap_compare", "inputs": inputs})["id"])

    def jobs(self) -> list[dict[str, Any]]:
        """List jobs, newest first."""
        answer = httpx.get(f"{self.gateway_url}/v1/jobs", trust_env=False, verify=NO_CERTIFICATES).raise_for_status()
        data: list[dict[str, Any]] = answer.json()["data"]
        return data

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.gateway_url}{path}", json=body, trust_env=False, verify=NO_CERTIFICATES
        ).raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def port_of(self, path: str) -> int:
        """Return the port of the service that answers a path."""
        return self.notifier.port if service_of(path) == "notifier" else self.gateway_port


@contextlib.contextmanager
def running_services(
    folder: Path, *, heartbeat_s: float = 0.5, bucket_url: Callable[[str], str] = str
) -> Iterator[RunningServices]:
    """Run them in embedded mode; pages of one origin, where nothing listens yet, may call.

    ``bucket_url`` may lead to the bucket by another way.
    """
    for name in ("nats", "s3"):
        (folder / name).mkdir()
    port = free_port()
    pages_origin = f"http://{HOST}:{free_port()}"
    told = {"SACCADE_ALLOWED_ORIGINS": pages_origin}
    with (
        EmbeddedNats(folder / "nats") as nats,
        EmbeddedS3(folder / "s3") as s3,
        NotifierProcess(nats.settings, NOTIFIER_HEARTBEAT_S=str(heartbeat_s), **_WEBHOOKS, **told) as notifier,
    ):
        environment = {
            "NATS_URL": nats.settings.url,
            "NATS_REPLICAS": str(nats.settings.replicas),
            "S3_ENDPOINT_URL": bucket_url(s3.settings.endpoint_url),
            "S3_ACCESS_KEY_ID": s3.settings.access_key_id,
            "S3_SECRET_ACCESS_KEY": s3.settings.secret_access_key.get_secret_value(),
            "GATEWAY_PORT": str(port),
            "GATEWAY_DATA_DIR": str(folder / "gateway"),
            "GATEWAY_URL_ALLOWED_NETWORKS": HOST,
            **ONE_AUTHORITY,
            **told,
        }
        gateway = subprocess.Popen(
            [sys.executable, "-m", "services.gateway"], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            wait_until_ready(port, gateway)
            yield RunningServices(nats, s3, port, notifier, pages_origin)
        finally:
            gateway.terminate()
            gateway.wait(10)
