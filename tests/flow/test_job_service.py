"""The dispatcher as a process: how it starts, what it says, how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from contracts.streams import EVENTS
from kit.bus.connection import connect, declare, request
from kit.settings import as_environment, inherited_environment
from tests.harness.servers.embedded import HOST, NatsServer, S3Server, free_port

pytestmark = pytest.mark.anyio

#: A service that was told to stop is gone within this.
#: A deadline, not a measure: the machine may be busy.
STOP_S = 10.0


class Service:
    """``python -m services.dispatcher``."""

    def __init__(self, nats_server: NatsServer, s3_server: S3Server, folder: Path, port: int) -> None:
        self._log = folder / "log"
        self.port = port
        environment = inherited_environment() | as_environment(nats_server.settings, s3_server.settings)
        environment |= {"DISPATCHER_PORT": str(port), "DISPATCHER_DATA_DIR": str(folder / "data")}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.dispatcher"], env=environment, stdout=log, stderr=log
            )

    @property
    def said(self) -> list[str]:
        lines = self._log.read_text().splitlines()
        return [json.loads(line)["message"] if line.startswith("{") else line for line in lines]

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body

    async def until(self, text: str, timeout_s: float = 20.0) -> None:
        end = time.monotonic() + timeout_s
        while not any(text in line for line in self.said):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            await asyncio.sleep(0.05)

    async def ended(self, timeout_s: float) -> int:
        return await asyncio.to_thread(self.process.wait, timeout_s)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(timeout=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_health_and_ends_when_told(
    nats_server: NatsServer, s3_server: S3Server, tmp_path: Path, number: signal.Signals
) -> None:
    with Service(nats_server, s3_server, tmp_path, free_port()) as service:
        await service.until("leading")
        health = json.loads(await asyncio.to_thread(service.get, "/health"))
        assert health["status"] == "ok"
        assert set(health["checks"]) == {"nats", "bucket", "lease", "launches"}
        ready = json.loads(await asyncio.to_thread(service.get, "/ready"))
        assert ready == {"status": "ready", "service": "dispatcher"}
        assert b"saccade_dispatcher_leading 1.0" in await asyncio.to_thread(service.get, "/metrics")
        service.process.send_signal(number)
        assert await service.ended(STOP_S) == 0, service.said


async def test_it_waits_for_its_bus_with_one_line_and_ends_while_waiting(
    nats_server: NatsServer, s3_server: S3Server, tmp_path: Path
) -> None:
    nats_server.kill()
    with Service(nats_server, s3_server, tmp_path, free_port()) as service:
        await service.until("nats: ")
        await asyncio.sleep(1.0)
        assert service.process.poll() is None
        assert len(service.said) == 1, service.said
        nats_server.start()
        await service.until("leading")
        nats_server.kill()
        service.process.terminate()
        assert await service.ended(STOP_S) == 0, service.said


async def test_a_port_that_is_taken_is_one_line(nats_server: NatsServer, s3_server: S3Server, tmp_path: Path) -> None:
    port = nats_server.settings.url.rpartition(":")[2]
    with Service(nats_server, s3_server, tmp_path, int(port)) as service:
        assert await service.ended(20) == 1
        assert any(f"Port {port}" in line and "another port" in line for line in service.said), service.said
        assert not any("Traceback" in line for line in service.said), service.said


async def test_a_data_folder_that_is_none_is_one_line(
    nats_server: NatsServer, s3_server: S3Server, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file")
    with Service(nats_server, s3_server, tmp_path, free_port()) as service:
        assert await service.ended(20) == 1
        assert "DISPATCHER_DATA_DIR" in service.said[-1]


async def test_another_stream_ends_it_for_a_new_start(
    nats_server: NatsServer, s3_server: S3Server, tmp_path: Path
) -> None:
    with Service(nats_server, s3_server, tmp_path, free_port()) as service:
        await service.until("leading")
        client = await connect(nats_server.settings, "test")
        await request(client, f"STREAM.DELETE.{EVENTS.name}", {})
        await declare(client)
        await client.close()
        nats_server.kill()
        nats_server.start()
        assert await service.ended(20) == 75, service.said
