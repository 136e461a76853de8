"""Gateway, dispatcher and notifier as processes on a bus; one that ends is started again, as in production."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from kit.settings import S3Settings, as_environment, inherited_environment
from tests.harness.servers.embedded import HOST, ROOT, NatsServer, free_port
from tests.harness.servers.loopback_tls import NO_CERTIFICATES, ONE_AUTHORITY

_SERVICES: Final = ("gateway", "dispatcher", "notifier")
_PAUSE_S: Final = 0.5
_READY_S: Final = 60.0
#: A service that was told to stop and has not after this is killed.
_STOP_S: Final = 15.0


class ClusterServices:
    """The three services, on a cluster with the addresses of all nodes and three replicas, or on one server."""

    def __init__(self, bus: NatsServer, s3: S3Settings, folder: Path, **environment: str) -> None:
        """``environment`` has further settings of all services."""
        self.ports = {name: free_port() for name in _SERVICES}
        #: How often each service was started.
        self.starts = dict.fromkeys(_SERVICES, 0)
        self._folder = folder
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._environment = inherited_environment() | as_environment(bus.settings, s3) | ONE_AUTHORITY
        self._environment |= {
            "WORKER_CATALOG": "tests.workers",
            "NOTIFIER_SECRET_KEY": "k" * 32,
            "NOTIFIER_WEBHOOK_HTTPS_ONLY": "false",
            "NOTIFIER_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        self._environment |= environment
        for name in _SERVICES:
            self._environment |= {
                f"{name.upper()}_PORT": str(self.ports[name]),
                f"{name.upper()}_DATA_DIR": str(folder / name),
            }

    def url(self, service: str) -> str:
        """Return the address of a service."""
        return f"http://{HOST}:{self.ports[service]}"

    def log(self, service: str) -> str:
        """Return what a service has logged."""
        return (self._folder / f"{service}.log").read_text()

    async def health(self, service: str) -> dict[str, Any]:
        """Return the health report of a service; empty while it does not answer."""
        async with httpx.AsyncClient(trust_env=False, verify=NO_CERTIFICATES, timeout=10) as http:
            try:
                report: dict[str, Any] = (await http.get(f"{self.url(service)}/health")).json()
            except (httpx.HTTPError, ValueError):
                return {}
        return report

    async def _is_ready(self, service: str) -> bool:
        async with httpx.AsyncClient(trust_env=False, verify=NO_CERTIFICATES, timeout=10) as http:
            try:
                return (await http.get(f"{self.url(service)}/ready")).is_success
            except httpx.HTTPError:
                return False

    async def wait_until_healthy(self) -> None:
        """Wait until each service is ready, and has everything it needs."""
        reports: dict[str, Any] = {}
        try:
            async with asyncio.timeout(_READY_S):
                for name in _SERVICES:
                    while not await self._is_ready(name):
                        await asyncio.sleep(0.1)
                    while (reports := reports | {name: await self.health(name)})[name].get("status") != "ok":
                        await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise AssertionError(f"not healthy after {_READY_S:.0f} s: {reports}") from error

    async def wait_until_unhealthy(self, name: str) -> None:
        """Wait until a service says that it is degraded for want of NATS: a node hears late that it leads no longer."""
        report: dict[str, Any] = {}
        try:
            async with asyncio.timeout(_READY_S):
                while report.get("checks", {}).get("nats", {}).get("status") != "failed":
                    await asyncio.sleep(0.1)
                    report = await self.health(name)
        except TimeoutError as error:
            raise AssertionError(f"{name} is not unhealthy after {_READY_S:.0f} s: {report}") from error
        assert report["status"] == "degraded", report

    async def __aenter__(self) -> Self:
        for name in _SERVICES:
            (self._folder / name).mkdir(parents=True)
            self._tasks.append(asyncio.create_task(self._supervise(name)))
        try:
            await self.wait_until_healthy()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        await self._stop()

    async def _supervise(self, name: str) -> None:
        while not self._stopping:
            with (self._folder / f"{name}.log").open("ab") as log:
                self._processes[name] = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", f"services.{name}"),
                    env=self._environment,
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                )
            self.starts[name] += 1
            if self._stopping:  # while it was started: nobody else has told it to stop
                self._processes[name].terminate()
            await self._processes[name].wait()
            await asyncio.sleep(0 if self._stopping else _PAUSE_S)

    async def _stop(self) -> None:
        self._stopping = True
        running = [process for process in self._processes.values() if process.returncode is None]
        for process in running:
            process.terminate()
        _, late = await asyncio.wait(self._tasks, timeout=_STOP_S)
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*self._tasks)
        assert not late, "a service was told to stop and did not"
