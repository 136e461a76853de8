"""Ports that the system listens on: free before it runs, and held by nobody else."""

from __future__ import annotations

import contextlib
from typing import Final
from urllib.parse import urlsplit

import psutil

from cli.doctor.report_line import ReportLine, fail, ok
from cli.doctor.run import in_thread
from cli.doctor.services import Asked, ask
from cli.doctor.system import System
from cli.embedded.ports import LOOPBACK, another_port, is_free
from cli.settings import DEFAULT_PORT

_BUCKET_PORT: Final = 9000


async def check_ports(system: System, port: int | None) -> list[ReportLine]:
    """Look at the ports on this machine that a start would take."""
    if system.kind == "embedded":
        if system.running:
            return [ok("port", f"Saccade listens on {urlsplit(system.url).port}")]
        return [await _judge(port or DEFAULT_PORT, "saccade up --port {other}")]
    if system.kind == "compose":
        origin = int(system.variables.get("SACCADE_PORT") or DEFAULT_PORT)
        bucket = int(system.variables.get("S3_PORT") or _BUCKET_PORT)
        found = [await _judge(origin, "set SACCADE_PORT={other}")]
        # The bucket says nothing of itself: where the origin is ours, so is that.
        ours = found[0].outcome == "ok" and not await in_thread(is_free, origin)
        return [
            *found,
            ok("port", f"{bucket} is the bucket's") if ours else await _judge(bucket, "set S3_PORT={other}"),
        ]
    return [finding for address in system.services.items() if (finding := await _judge_service(*address))] or [
        ok("port", "no port of this machine is held by another program")
    ]


async def _judge(port: int, instead: str) -> ReportLine:
    """Return whether a port is free, or held by Saccade."""
    if await in_thread(is_free, port):
        return ok("port", f"{port} is free")
    if (await ask(f"http://{LOOPBACK}:{port}/health")).service:
        return ok("port", f"Saccade listens on {port}")
    other = await in_thread(another_port, port)
    fix = f"Stop that program, or choose another port: {instead.format(other=other)}."
    return fail("port", f"{port} is held by {await in_thread(holder, port)}", fix)


async def _judge_service(name: str, url: str) -> ReportLine | None:
    """Return that another program answers where a service of ours should; None otherwise."""
    answer: Asked = await ask(f"{url}/health")
    if not answer.connected or answer.service == name:
        return None
    port = urlsplit(url).port or 0
    who = f"the {answer.service}" if answer.service else await in_thread(holder, port)
    fix = f"Stop that program, or give the {name} another port with {name.upper()}_PORT."
    return fail("port", f"{port} should be the {name}'s and is held by {who}", fix)


def holder(port: int) -> str:
    """Return which program listens on a port, as far as this user may know."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return "a program of another user"
