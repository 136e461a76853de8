"""NATS over TLS and secure WebSockets, as a worker on rented machines connects: certificate check and restarts."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.assignment import Assignment
from contracts.events.base import encode
from contracts.events.job import JobStageCompleted
from contracts.ids import new_id
from contracts.worker_rights import run_grant
from kit.bus.connection import connect, declare
from modal_workers.runtime.bus.open_bus import open_bus
from tests.harness.servers.embedded import HOST, ROOT, OperatorNats, free_port

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate"),
    # nats-py 2.16 hands aiohttp a timeout in the form of before.
    pytest.mark.filterwarnings("ignore:parameter 'timeout' of type:DeprecationWarning"),
]


class TlsNats(OperatorNats):
    """nats-server that speaks TLS only, on both its ports, with a self-signed certificate authority."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.certificate = folder / "certificate.pem"
        self._key = folder / "tls.key"
        self._websocket_port = free_port()
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]
        command += ["-addext", f"subjectAltName=IP:{HOST}", "-keyout", str(self._key), "-out", str(self.certificate)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)

    def _more_configuration(self) -> str:
        tls = f'tls {{ cert_file: "{self.certificate}", key_file: "{self._key}" }}\n'
        websocket = f'websocket {{ host: "{HOST}", port: {self._websocket_port}, {tls} }}\n'
        return super()._more_configuration() + tls + websocket

    def url_of(self, scheme: str) -> str:
        return f"wss://{HOST}:{self._websocket_port}" if scheme == "wss" else self.url.replace("nats://", "tls://")


@pytest.fixture(autouse=True)
def left_sockets() -> Iterator[None]:
    """Close the sockets that nats-py 2.16 leaves open when a TLS connection fails."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsNats]:
    with TlsNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.mark.parametrize("scheme", ["tls", "wss"])
async def test_a_worker_reaches_its_job(server: TlsNats, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    services = await connect(server.settings.model_copy(update={"url": server.url_of("tls")}), "services")
    await declare(services)
    await services.close()
    run = Assignment(
        job_id=new_id("job"),
        tenant="acme",
        workload="scripted",
        attempt=1,
        run_id=new_id("run"),
        device="cpu",
        usd_per_s=0,
        params={},
        inputs={},
    )
    token = server.tokens.issue(run_grant(run.tenant, run.job_id, run.run_id), 60)
    settings = server.settings_of(token).model_copy(update={"url": server.url_of(scheme)})
    bus = await open_bus(settings, run)
    assert await bus.load() is None

    def completed(stage: str) -> JobStageCompleted:
        return JobStageCompleted(attempt=1, run_id=run.run_id, stage=stage, duration_s=1)

    for number in range(2):
        message = encode(completed(str(number)), tenant=run.tenant, subject_id=run.job_id, source="/worker/x")
        assert await bus.publish(message, deadline_s=30) > 0
        server.kill()
        server.start()
    await bus.load()
    await bus.close()


#: Stops after a second, unlike a service.
CONNECT = """
import asyncio, sys
from kit.logs import start_logging
from kit.bus.connection import connect
from kit.settings import NatsSettings

async def main():
    async with asyncio.timeout(1):
        await connect(NatsSettings(url=sys.argv[1]), "worker")
    print("connected")

start_logging("worker")
asyncio.run(main())
"""


@pytest.mark.parametrize("scheme", ["tls", "wss"])
def test_a_server_with_an_untrusted_certificate_gets_nothing(server: TlsNats, scheme: str) -> None:
    """The same server, without its certificate authority in the trust store."""
    command = [sys.executable, "-c", CONNECT, server.url_of(scheme)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=300)
    assert done.returncode != 0
    assert "connected" not in done.stdout
    assert "certificate verify failed" in done.stderr
