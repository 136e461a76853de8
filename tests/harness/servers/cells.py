"""Two cells, each a system of its own with processes and a bus, behind nginx or a client that does as nginx does."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from contracts.http_routes import service_of
from contracts.partitions import Partition
from kit.settings import S3Settings, inherited_environment
from tests.harness.servers.cluster_services import ClusterServices
from tests.harness.servers.embedded import HOST, EmbeddedNats, free_port, wait_for_port

DEPLOY = Path(__file__).parents[3] / "deploy"
PARTITIONS = {"a": "0-31/64", "b": "32-63/64"}


@dataclass
class Cell:
    """One running cell."""

    name: str
    nats: EmbeddedNats
    services: ClusterServices
    _stack: AsyncExitStack

    @property
    def partition(self) -> Partition:
        return Partition.parse(PARTITIONS[self.name])

    async def stop(self) -> None:
        """Stop its services and its bus."""
        await self._stack.aclose()


@asynccontextmanager
async def two_cells(s3: S3Settings, folder: Path, *tenants: str) -> AsyncIterator[dict[str, Cell]]:
    """Run two cells that share a keys file, with one key a tenant (``<tenant>.secret``), and a bucket."""
    digest = hashlib.sha256(b"secret").hexdigest()
    keys = folder / "keys.json"
    keys.write_text(json.dumps([{"id": tenant, "tenant": tenant, "sha256": digest} for tenant in tenants]))
    async with AsyncExitStack() as stack:
        cells = {}
        for name, partition in PARTITIONS.items():
            own = await stack.enter_async_context(AsyncExitStack())
            (folder / name / "nats").mkdir(parents=True)
            nats = own.enter_context(EmbeddedNats(folder / name / "nats"))
            services = ClusterServices(
                nats,
                s3.model_copy(update={"prefix": name}),
                folder / name,
                WORKER_CATALOG="tests.workers,modal_workers",
                SACCADE_API_KEYS_FILE=str(keys),
                SACCADE_ALLOWED_HOSTS=HOST,
                SACCADE_PARTITION=partition,
                NOTIFIER_TICKET_KEY="one key of all cells",
            )
            cells[name] = Cell(name, nats, await own.enter_async_context(services), own)
        yield cells


class AskingTransport(httpx.AsyncBaseTransport):
    """What an origin does, without nginx: ask a gateway for the slot, and send the request to the cell of it."""

    def __init__(self, cells: dict[str, Cell]) -> None:
        """Ask the gateways of all cells in turn."""
        self._cells, self._asked = cells, itertools.cycle(cells.values())
        self._http = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Pass a request on."""
        target = request.url.raw_path.decode()
        url = httpx.URL(f"{next(self._asked).services.url('gateway')}/origin-slot{target}")
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
        answer = await self._http.handle_async_request(httpx.Request(request.method, url, headers=headers))
        assert answer.status_code == 204, target
        slot = int(answer.headers.get("Saccade-Slot", "0"))
        cell = next(cell for cell in self._cells.values() if slot in cell.partition.slots)
        request.url = httpx.URL(cell.services.url(service_of(request.url.path) or "gateway")).copy_with(
            raw_path=request.url.raw_path
        )
        return await self._http.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def origin_configuration(folder: Path, partitions: Path) -> str:
    """Return the configuration that deploy/origin.sh starts nginx with; a script of the same name only stands by."""
    folder.mkdir(exist_ok=True)
    (folder / "nginx").write_text("#!/bin/sh\n")
    (folder / "nginx").chmod(0o755)
    inherited = inherited_environment(("PATH",))
    environment = {
        "PATH": f"{folder}:{inherited['PATH']}",
        "TMPDIR": str(folder),
        "ORIGIN_CONFIGURATION": str(DEPLOY / "origin.conf"),
        "ORIGIN_PARTITIONS": str(partitions),
    }
    subprocess.run([str(DEPLOY / "origin.sh")], env=environment, check=True, timeout=60)
    return (folder / "origin.conf").read_text()


@asynccontextmanager
async def nginx_before(cells: dict[str, Cell]) -> AsyncIterator[str]:
    """Run nginx with the example of two cells, at the cells' ports; yield its address."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Its workers are another user's where it is started by root.
        folder.chmod(0o755)
        example = (DEPLOY / "origin_partitions.conf").read_text()
        for cell in cells.values():
            for service in ("gateway", "notifier"):
                at = f"{HOST}:{cell.services.ports[service]}"
                example = re.sub(rf"\b{service}-{cell.name}:\d+", at, example)
        (folder / "partitions.conf").write_text(example)
        text = origin_configuration(folder / "started", folder / "partitions.conf")
        text = text.replace("listen 8080;", f"listen {HOST}:{port};")
        text = re.sub(r"/tmp/(?=\w+;|nginx\.pid;)", f"{folder}/", text)
        text = text.replace("/etc/saccade/", f"{DEPLOY}/").replace("access_log /dev/stdout line;", "access_log off;")
        (folder / "nginx.conf").write_text(re.sub(r"resolver [^;]*;", "", text))
        arguments = ("-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"))
        process = subprocess.Popen(["nginx", "-g", "daemon off;", *arguments])
        try:
            await asyncio.to_thread(wait_for_port, port, process)
            yield f"http://{HOST}:{port}"
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 30)
