"""Three nats-servers with deploy/nats_cluster.conf, on ports and in folders of the test's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pydantic import SecretStr

from kit.settings import NatsSettings
from tests.harness.servers.cluster import ClusterNode, EmbeddedCluster
from tests.harness.servers.embedded import HOST, ROOT

_ROUTE_PASSWORD = "routes"
USERS = {"NATS_USER": "svc", "NATS_OPERATOR_USER": "ops", "NATS_REPLAYER_USER": "replayer"}
PASSWORDS = {"NATS_PASSWORD": "s", "NATS_OPERATOR_PASSWORD": "o", "NATS_REPLAYER_PASSWORD": "r"}


class DeployCluster(EmbeddedCluster):
    """The cluster that docs/operations.md describes; only addresses and paths differ."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "node.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]
        command += ["-addext", f"subjectAltName=IP:{HOST}"]
        command += ["-keyout", str(folder / "node.key"), "-out", str(self.certificate)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        (folder / "ca.pem").write_bytes(self.certificate.read_bytes())
        super().__init__(folder)

    @property
    def url(self) -> str:
        return super().url.replace("nats://", "tls://")

    @property
    def settings(self) -> NatsSettings:
        return NatsSettings(url=self.url, user="svc", password=SecretStr("s"), replicas=3)

    def _configure(self, node: ClusterNode, routes: list[int], _: str) -> None:
        text = (ROOT / "deploy" / "nats_cluster.conf").read_text()
        for there, here in {
            "0.0.0.0:4222": f"{HOST}:{node.port}",
            "127.0.0.1:8222": f"{HOST}:{node.monitoring_port}",
            "0.0.0.0:6222": f"{HOST}:{node.route_port}",
            "/data": str(node.folder / "data"),
            "/etc/saccade/tls": str(node.folder.parent),
        }.items():
            assert there in text, there
            text = text.replace(there, here)
        node.folder.mkdir(parents=True, exist_ok=True)
        (node.folder / "nats.conf").write_text(text)
        (node.folder / "nats_users.conf").write_text((ROOT / "deploy" / "nats_users.conf").read_text())
        addresses = [f"tls://route:{_ROUTE_PASSWORD}@{HOST}:{port}" for port in routes]
        node.environment = {
            "NATS_NODE": node.name,
            "NATS_ROUTE_PASSWORD": _ROUTE_PASSWORD,
            **{f"NATS_ROUTE_{number}": address for number, address in enumerate(addresses, 1)},
            **USERS,
            **PASSWORDS,
        }
