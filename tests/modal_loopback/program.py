"""Program of a container: Modal's own runtime with exactly the uploaded files."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from modal_proto import api_pb2

from tests.modal_loopback.blobs import BlobStore
from tests.modal_loopback.deployment import Deployment
from tests.modal_loopback.exchange import Exchange
from tests.modal_loopback.functions import Function
from tests.modal_loopback.records import ContainerRecord, LogLine
from tests.modal_loopback.starter import ContainerProcesses, Starter, common_variables
from tests.modal_loopback.volumes import Mounted, replaced


@dataclass(frozen=True)
class Site:
    """Resources that all containers share."""

    folder: Path
    python: Path
    starter: Starter
    environment: str
    idle_s: float
    exchange: Exchange
    deployment: Deployment
    blobs: BlobStore
    logs: list[LogLine]


class Program:
    """Root folder of a container, its processes and their output."""

    def __init__(self, site: Site, function: Function, definition: api_pb2.Function, record: ContainerRecord) -> None:
        """Create the container's folder; `start` fills it and starts the program."""
        self._site, self._function, self._definition, self._record = site, function, definition, record
        self._folder = site.folder / record.id
        self._folder.mkdir()
        self._processes: ContainerProcesses | None = None
        self.socket = self._folder / "s"
        #: By the volume's id, from when it is started.
        self.mounted: dict[str, Mounted] = {}

    def send(self, number: signal.Signals) -> None:
        """Send SIGINT to the program, or SIGTERM: that kills everything in the container."""
        if self._processes:
            self._processes.send(number)

    async def start(self) -> None:
        """Put its files in place and start it."""
        for name in ("fs/root", "home", "tmp"):
            (self._folder / name).mkdir(parents=True)
        self._site.deployment.lay_out(self._definition, self._folder / "fs")
        self.mounted = self._site.deployment.volumes.mounted(self._definition, self._folder / "volumes")
        (self._folder / "start.json").write_text(json.dumps(self._variables()))
        self._processes = await self._site.starter.start(self._folder)

    def remove(self) -> None:
        """Remove its folder: a container's disk ends with it."""
        self._site.deployment.keep_bytecode(self._definition, self._folder / "fs")
        shutil.rmtree(self._folder, ignore_errors=True)

    async def wait(self) -> int:
        """Collect its output until all processes of the container have ended; return its exit code."""
        assert self._processes
        async for line in self._processes.output:
            text = line.decode(errors="replace").rstrip("\n")
            self._site.logs.append(LogLine(self._record.app, self._record.id, text))
        return await self._processes.wait()

    def _variables(self) -> dict[str, str]:
        arguments = self._folder / "arguments"
        arguments.write_bytes(
            api_pb2.ContainerArguments(
                task_id=self._record.id,
                function_id=self._function.id,
                app_id=self._function.app_id,
                function_def=self._definition,
                environment_name=self._site.environment,
                app_layout=self._site.deployment.layout(self._function.app_id),
            ).SerializeToString()
        )
        return {
            **common_variables(self._site.python),
            **replaced(self._site.deployment.environment_of(self._definition), self.mounted.values()),
            "HOME": str(self._folder / "home"),
            "TMPDIR": str(self._folder / "tmp"),
            "PYTHONPATH": str(self._folder / "fs" / "root"),
            "MODAL_SERVER_URL": f"unix://{self.socket}",
            "MODAL_TASK_ID": self._record.id,
            "MODAL_CONTAINER_ARGUMENTS_PATH": str(arguments),
            "MODAL_ENVIRONMENT": self._site.environment,
            "LOOPBACK_GPU": self._record.gpu,
            "LOOPBACK_CONTAINER": self._record.id,
        }
