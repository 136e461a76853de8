"""The console's page of a job, the API and the command line say the same at random points of random jobs.

``make soak`` compares 200 points with ``--soak-runs 200``; ``make test`` a fixed small share. The seed of a failure is
in its message: ``--seed`` plays it again.
"""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from cli.__main__ import saccade
from cli.failure import Failure
from kit.auth.api_keys import AuthSettings
from tests.harness.clients.console_browser import ConsoleTab, console_tab
from tests.harness.history.random_histories import RandomHistory, random_history
from tests.harness.network.prefix_proxy import prefix_proxy
from tests.harness.servers.embedded import NatsServer, S3Server
from tests.harness.servers.gateway import RunningGateway
from tests.harness.servers.served_gateway import served_gateway
from tests.harness.streams.notifier import notifier

_TENANT: Final = "flood"
#: What the page says: null while it reads, the error's code where there is none, else the job's fields.
_SHOWN: Final = """
(() => {
    const note = document.querySelector(".note.fair[aria-busy]");
    const wanted = new URLSearchParams(location.search).get("at");
    if (note?.querySelector("code")?.innerText !== wanted || note.ariaBusy !== "false") return null;
    const failed = document.querySelector("main [role=alert] code");
    if (failed) return { error: failed.innerText };
    const field = name => document.querySelector(`[data-field=${name}]`)?.dataset.value ?? null;
    const row = document.querySelector("a.event[aria-current]");
    return {
        id: location.pathname.split("/").at(-1), state: field("state"), stage: field("stage"),
        progress: field("progress"), cost: field("cost"), attempt: field("attempt"),
        newest: row && new URLSearchParams(row.search).get("at"),
    };
})()
"""


async def shown_by_page(tab: ConsoleTab, job_id: str, cursor: str) -> dict[str, Any]:
    """Open the job's page at a point and return what it says."""
    await tab.go(f"console/jobs/{job_id}?at={cursor}")
    await tab.until(f"{_SHOWN} !== null")
    # The events come from a stream that may still be read.
    await tab.until(f"Boolean({_SHOWN}?.error ?? {_SHOWN}?.newest)")
    found: dict[str, Any] = await tab.evaluate(_SHOWN)
    return found


def shown_by_command(origin: str, job_id: str, cursor: str) -> dict[str, Any]:
    """Return what the command line prints, or the code of its error."""
    asked = ["job", job_id, "--at", cursor, "--url", origin, "--json"]
    done = CliRunner().invoke(saccade, asked)
    if done.exit_code:
        assert isinstance(done.exception, Failure), (done.exception, done.output)
        return {"error": done.exception.code}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def as_page(job: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a job as the page says them; progress is shown until a job ends."""
    if "error" in job and "state" not in job:
        return {"error": job["error"]}
    ended = job["state"] in ("succeeded", "failed", "cancelled")
    return {
        "id": job["id"],
        "state": job["state"],
        "stage": None if ended else job["stage"] or "",
        "progress": None if ended else f"{job['progress']:g}",
        "cost": f"{job['cost']['actual_usd']:g}",
        "attempt": f"{job['attempt']}",
        "newest": job["cursor"],
    }


def comparable(shown: dict[str, Any]) -> dict[str, Any]:
    """Return what the page says, its numbers as Python writes them."""
    numbers = {name: f"{float(shown[name]):g}" for name in ("progress", "cost") if shown.get(name)}
    return shown | numbers


async def check_points(
    running: RunningGateway, tab: ConsoleTab, history: RandomHistory, *, chance: random.Random, count: int
) -> None:
    """Compare so many points: of events of the job, between them, and before the first one."""
    jobs = [subject_id for tenant, noun, subject_id in history.subjects() if (tenant, noun) == (_TENANT, "job")]
    refused = ""
    for number in range(count):
        # A point of the same job follows one that is refused: what is said of the first must not stay.
        job_id = refused or chance.choice(jobs)
        prefix = f"saccade.evt.{_TENANT}.job.{job_id}."
        own = [
            sequence
            for message, sequence in zip(history.messages, history.sequences, strict=True)
            if message.subject.startswith(prefix)
        ]
        before = [own[0] - 1] if own[0] > 1 and not refused and (number == 0 or chance.random() < 0.1) else []
        refused = job_id if before else ""
        sequence = chance.choice(before or [chance.choice(own), chance.randrange(own[0], own[-1] + 1)])
        cursor = f"{running.tail.epoch}.{sequence}"
        answer = await running.http.get(f"/v1/jobs/{job_id}", params={"at": cursor})
        told = answer.json()
        told = {"error": told["code"]} if answer.is_error else told
        wanted, note = as_page(told), f"{job_id} at {cursor}"
        folded = history.as_of(_TENANT, "job", job_id, sequence)
        assert (None if folded is None else folded.state) == wanted.get("state"), note
        assert as_page(await asyncio.to_thread(shown_by_command, tab.page.origin, job_id, cursor)) == wanted, note
        assert comparable(await shown_by_page(tab, job_id, cursor)) == wanted, note


async def play(nats: NatsServer, s3: S3Server, folder: Path, history: RandomHistory, *, seed: int, count: int) -> None:
    auth = AuthSettings(local_tenant=_TENANT)
    async with (
        served_gateway(nats.settings, s3.settings, folder, auth=auth) as (running, gateway),
        notifier(nats.settings, auth=auth) as streams,
        prefix_proxy(gateway, "/", streams.url) as origin,
    ):
        await history.store(running.store)
        assert await running.tail.wait_for(history.sequences[-1], 60)
        async with console_tab(origin, "/console/keys") as tab:
            await tab.until_heading("Keys")
            await check_points(running, tab, history, chance=random.Random(f"{seed} points"), count=count)


@pytest.mark.soak
def test_the_page_the_api_and_the_command_say_the_same_at_random_points(
    nats_server: NatsServer, s3_server: S3Server, tmp_path: Path, seed: int, soak_runs: int
) -> None:
    history = random_history(seed, 15 + soak_runs // 4, 3)
    try:
        asyncio.run(play(nats_server, s3_server, tmp_path, history, seed=seed, count=soak_runs))
    except BaseException as error:
        error.add_note(f"play it again with --seed {seed}")
        raise
