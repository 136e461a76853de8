"""The Python client in use: the README's example as a program, and ``saccade webhooks``."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import saccade
from cli.failure import Failure
from tests.harness.dispatch.finished_job import succeed
from tests.harness.network.breaking_proxy import BreakingProxy, Fault
from tests.harness.servers.gateway import video
from tests.harness.servers.running_services import RunningServices
from tests.harness.webhooks.listeners import listening
from tests.rules.tree import ROOT

pytestmark = pytest.mark.anyio

PACKAGE = ROOT / "clients" / "python"


async def test_the_readmes_example_runs(services: RunningServices, front: BreakingProxy, tmp_path: Path) -> None:
    (example, *_) = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 15
    script = tmp_path / "example.py"
    script.write_text(example)
    clips = [tmp_path / name for name in ("a.mp4", "b.mp4")]
    for clip in clips:
        clip.write_bytes(video())
    front.break_next(Fault("cut", 1, "data"))
    told = await asyncio.create_subprocess_exec(
        *[sys.executable, str(script), front.url, *map(str, clips), str(tmp_path / "home")],
        env={"PYTHONPATH": str(PACKAGE)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        while not services.jobs():
            assert told.returncode is None
            await asyncio.sleep(0.1)
        await succeed(services, services.jobs()[0]["id"], b"film")
        out, error = await told.communicate()
    assert (told.returncode, error) == (0, b"")
    home = tmp_path / "home"
    files = [home / name for name in ("film.mp4", "clips/first.mp4", "facts.bin", "manifest.json")]
    types = ["job.submitted", "job.queued", "job.starting", "job.started", "job.succeeded"]
    assert out.decode().split() == [*types, *map(str, files)]
    assert files[0].read_bytes() == b"film"
    assert front.exhausted


class Command:
    """``saccade webhooks`` as a person types it."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, *words: str) -> Any:
        """Run it with ``--json`` and give what it says."""
        result = await self.plainly(*words, "--json")
        assert result.exit_code == 0, (result.output, result.exception)
        return [json.loads(line) for line in result.stdout.splitlines()]

    async def plainly(self, *words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, saccade, ["webhooks", *words, "--url", self._url])

    async def refused(self, *words: str) -> Failure:
        result = await self.plainly(*words)
        assert isinstance(result.exception, Failure), result.output
        return result.exception


async def test_webhooks_on_the_command_line(services: RunningServices, front: BreakingProxy) -> None:
    webhooks = Command(front.url)
    assert (await webhooks.plainly("list")).stdout == "No webhooks.\n"
    async with listening() as listener:
        words = ["--type", "job.submitted", "--header", "X-Ours=a=b", "--rate", "50", "--signing", "both", "--ordered"]
        (made,) = await webhooks("create", listener.url, *words, "--description", "ours")
        assert made["secret"].startswith("whsec_")
        listed = await webhooks.plainly("list")
        assert [made["id"], "enabled", "job.submitted", listener.url, "ours"] == listed.stdout.splitlines()[1].split()
        assert "secret" not in (await webhooks("list"))[0]
        assert "answered 200" in (await webhooks.plainly("test", made["id"])).stdout
        assert listener.got[0].headers["x-ours"] == "a=b"
        services.submit({name: services.upload(video()) for name in ("reference", "other")})
        await listener.wait(2)
        async with asyncio.timeout(10):
            while not (sent := await webhooks("deliveries", made["id"], "--state", "delivered")):
                await asyncio.sleep(0.05)
        assert sent[0]["event_type"] == "job.submitted"
        assert " delivered " in (await webhooks.plainly("deliveries", made["id"])).stdout
        (asked,) = await webhooks("redeliver", made["id"], sent[0]["id"])
        assert asked["events"] == 1
        assert len({got.id for got in (await listener.wait(3))[1:]}) == 1
        assert "1 event is sent again" in (await webhooks.plainly("redeliver", made["id"], "--since", "1h")).stdout
        await listener.wait(4)
        (rotated,) = await webhooks("rotate-secret", made["id"], "--overlap", "90s")
        assert rotated["secret"] != made["secret"]
        shown = await webhooks.plainly("rotate-secret", made["id"])
        assert "whsec_" in shown.stdout
        assert "once" in shown.stderr
        (default,) = await webhooks("default-secret")
        (newer,) = await webhooks("default-secret", "--rotate", "--overlap", "90s")
        assert newer["secret"] != default["secret"]
        assert (await webhooks.plainly("default-secret")).stdout.strip() == newer["secret"]
        listener.status = 500
        refused = await webhooks.refused("test", made["id"])
        assert refused.code == "http_status"
        assert "'noted'" in refused.message, "what the receiver says is its answer"
        assert "noted" not in refused.hint, "and no hint of ours"
    assert (await webhooks.refused("test", made["id"])).code == "connect_failed"
    await webhooks("delete", made["id"])
    missing = await webhooks.refused("deliveries", made["id"])
    assert (missing.code, missing.hint) == ("webhook_not_found", "`saccade webhooks list` lists your endpoints.")
    for words in (
        ["redeliver", made["id"]],
        ["redeliver", made["id"], "a.1", "--since", "1h"],
        ["create", "http://127.0.0.1/", "--header", "a"],
        ["rotate-secret", made["id"], "--overlap", "soon"],
        ["default-secret", "--rotate", "--overlap", "soon"],
    ):
        assert (await webhooks.refused(*words)).code == "usage"
