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
    """``saccade webhooks``, or another command, as a person types it."""

    def __init__(self, url: str, name: str = "webhooks") -> None:
        self._url = url
        self._name = name

    async def __call__(self, *words: str) -> Any:
        """Run it with ``--json`` and give what it says."""
        result = await self.plainly(*words, "--json")
        assert result.exit_code == 0, (result.output, result.exception)
        return [json.loads(line) for line in result.stdout.splitlines()]

    async def plainly(self, *words: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, saccade, [self._name, *words, "--url", self._url])

    async def refused(self, *words: str) -> Failure:
        result = await self.plainly(*words)
        assert isinstance(result.exception, Failure), result.output
        return result.exception


async def test_the_past_on_the_command_line(services: RunningServices, front: BreakingProxy) -> None:
    job_id = services.submit({name: services.upload(video()) for name in ("reference", "other")})
    job, jobs = Command(front.url, "job"), Command(front.url, "jobs")
    (submitted,) = await job(job_id)
    await succeed(services, job_id, b"film")
    (found,) = await job(job_id, "--at", submitted["cursor"])
    assert (found["state"], found["as_of"]["cursor"]) == ("submitted", submitted["cursor"])
    assert (await job("latest"))[0]["state"] == "succeeded"
    listed = {each["id"]: each["state"] for each in await jobs("--at", submitted["cursor"])}
    assert listed[job_id] == "submitted"
    shown = (await job.plainly(job_id, "--at", submitted["cursor"])).stdout
    assert f"as of     {found['as_of']['time'][:10]}" in shown
    assert (await job.refused(job_id, "--at", "7d")).code == "not_created_yet"
    (changes,) = await job("diff", job_id, submitted["cursor"])
    assert [each["event"]["type"] for each in changes["events"]] == [
        *("job.queued", "job.starting", "job.started", "job.succeeded")
    ]
    told = (await job.plainly("diff", "latest", submitted["cursor"], "0")).stdout
    assert "state: submitted -> succeeded" in told
    sessions = Command(front.url, "sessions")
    assert (await sessions.refused("diff", "ses_none", "1h")).code == "session_not_found"
    assert (await sessions.refused("show", "ses_none", "--at", "1h")).code == "session_not_found"
    assert await sessions("--at", "1h") == []


async def test_the_budget_on_the_command_line(front: BreakingProxy) -> None:
    budget = Command(front.url, "budget")
    (made,) = await budget("set", "--daily", "5", "--warn", "50")
    assert (made["daily_usd"], made["monthly_usd"], made["warn_share"]) == (5.0, None, 0.5)
    assert await budget() == [made] == await budget("show")
    lines = (await budget.plainly()).stdout.splitlines()
    assert [line.split()[:5] for line in lines[1:]] == [
        ["day", "$5.00", "$0.00", "$0.00", "$5.00"],
        ["month", "-", "$0.00", "$0.00", "-"],
    ]
    assert (await budget.refused("set")).code == "usage"
    assert (await budget.plainly("remove")).stdout == "Removed the budget.\n"
    missing = await budget.refused("remove")
    assert (missing.code, missing.hint) == ("budget_not_found", "Set one with: saccade budget set --daily USD")


async def test_messages_on_the_command_line(front: BreakingProxy) -> None:
    webhooks = Command(front.url)
    async with listening() as chat:
        words = ["--format", "text", "--template", "{{job.title}} failed: {{error.code}}", "--quiet", "22:00-22:00"]
        (made,) = await webhooks("create", chat.url, *words)
        assert made["template"] == words[3]
        shown = (await webhooks.plainly("test", made["id"])).stdout
        assert "Test, with example values: Lap comparison failed: clip_too_short" in shown
        assert chat.got[0].body.decode() in shown
        await webhooks("delete", made["id"])
        unknown = await webhooks.refused("create", chat.url, "--format", "text", "--template", "{{job.owner}}")
        assert unknown.code == "invalid_parameter"
        assert "job.title" in unknown.message
    mail = await webhooks.refused("create", "mailto:ops@example.com", "--format", "email", "--subject", "{{job.title}}")
    assert mail.code == "email_not_configured"


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
