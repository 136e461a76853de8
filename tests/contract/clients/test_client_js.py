"""``clients/js/saccade.js`` against the real services, in Node and in Chromium: uploads, jobs, files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from contracts.events.job import Cost, JobSucceeded
from contracts.limits import MIB, PART_BYTES
from contracts.manifest import Artifact, Manifest
from kit.bucket import open_bucket
from tests.harness.clients.javascript_client import Run, page, use
from tests.harness.clients.node import MODULE, ROOT, find_node
from tests.harness.network.breaking_proxy import BreakingProxy
from tests.harness.servers.embedded import HOST, free_port
from tests.harness.servers.gateway import video
from tests.harness.servers.running_services import RunningServices
from tests.harness.streams.notifier import (
    RUN_ID,
    Publisher,
    publisher,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a film that takes three parts; a ``free`` box at its end makes it as large."""
    path = tmp_path_factory.mktemp("film") / "lap.mp4"
    padding = random.Random(1).randbytes(2 * PART_BYTES + MIB)
    path.write_bytes(video() + (len(padding) + 8).to_bytes(4, "big") + b"free" + padding)
    return path


async def check_uploads(run: Run, url: str, film: Path, place: str) -> None:
    size = film.stat().st_size
    whole = await run("upload", url, place, {"multipart": False, "metadata": {"lap": "7"}})
    assert whole["upload"]["metadata"] == {"lap": "7"}
    assert whole["upload"]["state"] == "completed"
    assert whole["upload"]["sha256"] == hashlib.sha256(film.read_bytes()).hexdigest()
    assert whole["told"][-1] == [size, size]
    assert whole["told"] == sorted(whole["told"])  # how often is the browser's affair: it may be done within 50 ms
    parts = await run("interruptedUpload", url, place, PART_BYTES + MIB)
    assert parts["first"]["name"] == "AbortError"
    assert (parts["upload"]["id"], parts["upload"]["state"]) == (parts["id"], "completed")
    assert parts["upload"]["sha256"] == whole["upload"]["sha256"]
    assert parts["told"][-1] == size
    assert len(parts["told"]) > 2, "progress is told while the bytes go"
    assert parts["other"]["code"] == "upload_not_resumable"


async def test_files_are_uploaded_from_node(front: BreakingProxy, film: Path) -> None:
    find_node()
    await check_uploads(use, front.url, film, str(film))


async def test_files_are_uploaded_from_chromium(services: RunningServices, film: Path, tmp_path: Path) -> None:
    async with (
        page(services.pages_origin, tmp_path, films=film.parent) as run,
        BreakingProxy(services.port_of) as proxy,
    ):
        await check_uploads(run, proxy.url, film, f"{services.pages_origin}/films/{film.name}")


async def test_rules_are_made_tried_and_changed(front: BreakingProxy) -> None:
    find_node()
    wanted = {"name": "js", "workload": "lap_compare", "group": {"by": "metadata.lap", "needs": 2}}
    found = await use("rules", front.url, wanted)
    assert found["again"] == found["made"]
    assert (found["made"]["name"], found["made"]["inputs"]) == ("js", ["reference", "other"])
    assert found["tried"]["considered"] <= 5
    assert found["made"]["id"] in found["listed"]
    assert (found["changed"]["enabled"], found["read"]) == (False, found["changed"])
    assert found["jobs"] == []
    assert found["gone"]["code"] == "rule_not_found"


async def test_a_budget_is_set_read_and_removed(front: BreakingProxy) -> None:
    find_node()
    found = await use("budget", front.url, {"monthly_usd": 3, "warn_share": 0.5})
    assert found["made"] == found["read"]
    assert (found["read"]["monthly_usd"], found["read"]["day"]["limit_usd"]) == (3.0, None)
    assert found["gone"]["code"] == "budget_not_found"


async def test_a_job_is_cancelled_by_a_plan(front: BreakingProxy, inputs: dict[str, str]) -> None:
    find_node()
    found = await use("plan", front.url, inputs)
    assert (found["trial"]["count"], found["plan"]["state"], found["plan"]["done"]) == (1, "ended", 1)
    assert found["listed"] == [found["id"]]
    assert found["plan"]["id"] in found["plans"]


async def test_a_job_is_checked_before_it_is_submitted(front: BreakingProxy, inputs: dict[str, str]) -> None:
    find_node()
    found = await use("check", front.url, inputs)
    assert found["early"]["missing_inputs"] == ["reference", "other"]
    assert found["refused"]["code"] == "missing_input"
    assert (found["whole"]["missing_inputs"], found["whole"]["params"]["sectors"]) == ([], 4)


async def test_a_job_is_read_as_it_was(services: RunningServices, front: BreakingProxy) -> None:
    find_node()
    job_id = services.submit({name: services.upload(video()) for name in ("reference", "other")})
    found = await use("past", front.url, job_id)
    assert found["then"]["as_of"]["cursor"] == found["submitted"]["cursor"] == found["changes"]["since"]["cursor"]
    assert (found["then"]["message"], found["listed"][job_id]) == ("", "")
    assert [field["pointer"] for field in found["changes"]["changed"]] == ["/message"]
    assert found["early"]["code"] == "not_created_yet"


async def test_refusals_are_typed(front: BreakingProxy) -> None:
    find_node()
    found = await use("refusals", front.url, f"http://{HOST}:{free_port()}", "no film at all\n" * 100)
    assert {name: one["code"] for name, one in found.items() if name != "isError"} == {
        "workload": "unknown_workload",
        "job": "job_not_found",
        "film": "media_undecodable",
        "nobody": "server_unreachable",
        "silence": "server_unreachable",
        "stream": "job_not_found",
        "ticket": "ticket_refused",
    }
    assert found["workload"]["status"] == 422
    assert all(one["hint"] for name, one in found.items() if name != "isError")
    assert found["film"]["requestId"]
    assert found["isError"]


@pytest.mark.parametrize("multiplex", [False, True])
async def test_jobs_are_submitted_once_listed_and_cancelled(
    front: BreakingProxy, inputs: dict[str, str], multiplex: bool
) -> None:
    find_node()
    found = await use("submitted", front.url, inputs, multiplex)
    first, again, other = found["ids"]
    assert first == again != other
    assert {first, other} <= set(found["listed"])
    assert len(found["listed"]) == len(set(found["listed"]))
    assert found["cancelled"]["metadata"] == {"a": "b"}
    assert found["told"] == ["job.submitted", "job.cancel_requested"]
    assert found["only"] == ["job.cancel_requested"]
    assert found["cursor"]
    assert found["retry"]["code"] == "job_not_retryable"
    assert found["page"] == [first]
    assert found["counts"] == {
        "count": 1,
        "by_state": {"submitted": 1},
        "by_workload": {"lap_compare": 1},
        "complete": True,
        "incomplete": None,
    }


async def leave_files(services: RunningServices, job_id: str, files: dict[str, bytes]) -> str:
    """Leave files and their manifest as a worker does, and give the manifest's key."""
    async with open_bucket(services.s3.settings) as bucket:
        sent = {name: await bucket.put(bucket.key("results", job_id, name), body) for name, body in files.items()}
        manifest = Manifest(
            job_id=job_id,
            tenant="local",
            workload="lap_compare",
            workload_version="1",
            attempt=1,
            run_id=RUN_ID,
            created_at="2026-01-31T12:00:00Z",
            duration_s=1,
            device="cpu",
            result={},
            artifacts=[
                Artifact(name=name, key=one.key, bytes=one.bytes, sha256=one.sha256, media_type="text/plain")
                for name, one in sent.items()
            ],
        )
        body = manifest.model_dump_json().encode()
        return (await bucket.put(bucket.key("results", job_id, "manifest.json"), body)).key


async def finish(services: RunningServices, jobs: Publisher, job_id: str) -> None:
    """Bring a job to its end as dispatcher and worker do."""
    await jobs.start(job_id)
    key = await leave_files(services, job_id, {"answer.txt": b"0.4 s", "more/why.txt": b"because"})
    cost = Cost(device="cpu", seconds=1, usd=0)
    await jobs.say(job_id, JobSucceeded(attempt=1, run_id=RUN_ID, result={}, manifest_key=key, duration_s=1, cost=cost))


@pytest.mark.parametrize("multiplex", [False, True])
async def test_a_job_that_has_ended_gives_its_history_and_its_files(
    services: RunningServices, front: BreakingProxy, inputs: dict[str, str], multiplex: bool
) -> None:
    find_node()
    job_id = services.submit(inputs)
    async with publisher(services.nats.settings) as jobs:
        await finish(services, jobs, job_id)
    found = await use("ended", front.url, job_id, multiplex)
    assert found["ended"]
    assert found["told"] == ["job.submitted", "job.queued", "job.starting", "job.started", "job.succeeded"]
    assert found["complete"]
    assert found["texts"] == {"answer.txt": "0.4 s", "more/why.txt": "because"}
    assert found["missing"]["code"] == "artifact_not_found"
    assert found["linked"] == "because"


async def test_the_example_of_the_readme_runs(services: RunningServices, front: BreakingProxy, tmp_path: Path) -> None:
    example = re.findall(r"```js\n(.*?)```", (MODULE.parent / "README.md").read_text(), re.DOTALL)[0]
    (tmp_path / "example.mjs").write_text(example)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "saccade-client").symlink_to(MODULE.parent)
    for name in ("lap_a.mp4", "lap_b.mp4"):
        (tmp_path / name).write_bytes(video())
    process = await asyncio.create_subprocess_exec(
        *(find_node(), "example.mjs"),
        cwd=tmp_path,
        env={"SACCADE_URL": front.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    async with asyncio.timeout(30), publisher(services.nats.settings) as jobs:
        said = (await process.stdout.readuntil(b"job.submitted")).decode()
        await finish(services, jobs, services.jobs()[0]["id"])
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    said += out.decode()
    assert "lap_a.mp4 100 %" in said
    assert "job.succeeded" in said
    assert "answer.txt 5 bytes" in said


def test_the_types_name_all_that_there_is() -> None:
    script = f"""
        const module = await import({json.dumps(MODULE.as_uri())});
        const names = (of) => Object.getOwnPropertyNames(of.prototype).filter((name) => name !== "constructor");
        console.log(JSON.stringify(Object.fromEntries(Object.entries(module).map(([name, of]) => [name, names(of)]))));
    """
    command = [find_node(), "--input-type=module", "-e", script]
    found = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=300).stdout
    )
    assert set(found) == {"BlockParser", "Client", "EventFeed", "Job", "SaccadeError"}
    types = MODULE.with_suffix(".d.ts").read_text()
    for name, members in found.items():
        body = re.search(rf"export class {name} .*?\n}}", types, re.DOTALL)
        assert body, name
        declared = set(re.findall(r"^  (?:get )?(\w+)\(", body[0], re.MULTILINE)) - {"constructor"}
        assert declared == set(members), name


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_the_package_holds_what_it_names(tmp_path: Path) -> None:
    command = ["npm", "pack", "--dry-run", "--json", "--silent", str(MODULE.parent)]
    packed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    names = {one["path"] for one in json.loads(packed.stdout)[0]["files"]}
    assert names == {"README.md", "package.json", "saccade.d.ts", "saccade.js", "webhook.d.ts", "webhook.js"}
