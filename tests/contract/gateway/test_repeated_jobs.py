"""A job that repeats an earlier one with other parameters names it; who does not own that one cannot."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import saccade
from contracts.ids import new_id
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import code_of, keys_file, running_gateway
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]


async def test_a_job_is_repeated_with_a_changed_parameter(
    empty_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served_gateway(*empty_servers, tmp_path) as (running, address):
        monkeypatch.setenv("SACCADE_URL", address)
        upload_id = await running.uploaded()
        first = await running.submitted(upload_id, params={"sectors": 4, "opportunities": 1}, metadata={"lap": "7"})
        assert first["retry_of"] is None
        words = ["retry", first["id"], "-p", "sectors=5", "--json"]
        done = await asyncio.to_thread(CliRunner().invoke, saccade, words)
        assert done.exception is None, (done.exception, done.output)
        found = (await running.http.get("/v1/jobs", params={"q": first["id"]})).json()["data"]
        second = found[0]
        assert [job["id"] for job in found] == [second["id"], first["id"]]
        assert second["retry_of"] == first["id"]
        assert (second["params"]["sectors"], second["params"]["opportunities"]) == (5, 1)
        assert (second["inputs"], second["metadata"]) == (first["inputs"], {"lap": "7"})


async def test_only_an_own_job_can_be_repeated(empty_servers: Servers, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival"))
    acme, rival = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival"))
    async with running_gateway(*empty_servers, tmp_path, auth=auth) as running:
        ids = {}
        for headers in (acme, rival):
            upload_id = await running.uploaded(headers=headers)
            body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
            job = (await running.http.post("/v1/jobs", json=body, headers=headers)).json()
            ids[headers["Authorization"]] = job["id"], body
        _, body = ids[rival["Authorization"]]
        for job_id in (ids[acme["Authorization"]][0], new_id("job")):
            for query in ({}, {"dry_run": "true"}):
                wanted = body | {"retry_of": job_id}
                refused = await running.http.post("/v1/jobs", json=wanted, params=query, headers=rival)
                assert (refused.status_code, code_of(refused)) == (404, "job_not_found")
                assert refused.json()["errors"][0]["pointer"] == "#/retry_of"
