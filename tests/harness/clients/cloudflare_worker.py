"""The Worker of deploy/cloudflare in workerd, the runtime of Cloudflare's network, on this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kit.settings import inherited_environment
from tests.harness.clients.node import PACKAGES, ROOT, find_node, installed_packages

WORKER = ROOT / "deploy" / "cloudflare" / "worker.js"


@dataclass
class RunningWorker:
    """Address of a Worker, and its log once it has ended."""

    url: str
    log: str = ""


@asynccontextmanager
async def cloudflare_worker(**bindings: str) -> AsyncIterator[RunningWorker]:
    """Run the Worker with variables and secrets, or skip the test where its runtime cannot be installed."""
    node, folder = find_node(), await asyncio.to_thread(installed_packages, PACKAGES / "worker")
    process = await asyncio.create_subprocess_exec(
        node, str(PACKAGES / "worker" / "run.mjs"), str(folder), str(WORKER), json.dumps(bindings),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=inherited_environment(),
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    assert process.stderr
    reading = asyncio.ensure_future(process.stderr.read())
    try:
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert line, (await reading).decode()
        running = RunningWorker(json.loads(line)["url"].rstrip("/"))
        yield running
        process.stdin.close()
        async with asyncio.timeout(20):
            running.log = (await reading).decode()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        reading.cancel()
