"""Search and counts of jobs over HTTP: by id, file name, metadata and workload; each tenant finds its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contracts.events.job import JobCancelled
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from services.gateway.aggregates import job_texts
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]


async def ids(running: RunningGateway, headers: dict[str, str] | None = None, **query: Any) -> list[str]:
    """Return the ids of all pages of a list."""
    found: list[str] = []
    while True:
        page = (await running.http.get("/v1/jobs", params=query, headers=headers)).json()
        found += [job["id"] for job in page["data"]]
        assert (page["searched_to"] is not None) == ("q" in query and page["next_cursor"] is not None)
        if page["next_cursor"] is None:
            return found
        query["cursor"] = page["next_cursor"]


async def test_jobs_are_found_by_what_their_owner_knows_of_them(empty_servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*empty_servers, tmp_path) as running:
        anna = await running.uploaded(filename="Anna_Übung 7.MP4")
        bert = await running.uploaded(filename="bert.mp4")
        first = (await running.submitted(anna, metadata={"lap": "7", "venue": "Halle 3"}))["id"]
        second = (await running.submitted(bert, metadata={"lap": "8"}))["id"]
        third = (await running.submitted(bert))["id"]
        for text, expected in (
            ("ANNA_übung", [first]),
            ("bert.MP4", [third, second]),
            ("lap=7", [first]),
            ("venue", [first]),
            ("halle 3", [first]),
            ("lap_compare", [third, second, first]),
            (second, [second]),
            (second[-8:].upper(), [second]),
            ("%", []),
            ("nothing like it", []),
        ):
            assert await ids(running, q=text) == expected, text
        await running.http.post(f"/v1/jobs/{second}/cancel")
        await running.say(second, JobCancelled(attempt=0))
        assert await ids(running, q="bert", state="cancelled") == [second]
        assert await ids(running, q="bert", limit=1) == [third, second]
        counts = (await running.http.get("/v1/jobs/counts")).json()
        assert counts == {
            "count": 3,
            "by_state": {"cancelled": 1, "submitted": 2},
            "by_workload": {"lap_compare": 3},
            "complete": True,
            "incomplete": None,
        }
        counts = (await running.http.get("/v1/jobs/counts", params={"q": "bert", "state": "submitted"})).json()
        assert (counts["count"], counts["by_state"]) == (1, {"submitted": 1})
        past = await running.http.get("/v1/jobs", params={"q": "bert", "at": 0, "state": "cancelled"})
        assert [job["id"] for job in past.json()["data"]] == [second]
        refused = await running.http.get("/v1/jobs", params={"q": "x" * 201})
        assert (refused.status_code, code_of(refused)) == (422, "invalid_parameter")
        assert (await running.http.get("/v1/jobs/counts", params={"state": "asleep"})).status_code == 422


async def test_a_search_that_looked_at_its_share_says_how_far(
    empty_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_texts, "LOOKED_AT", 2)
    monkeypatch.setattr("services.gateway.aggregates.job_lists.MATCHES", 1)
    async with running_gateway(*empty_servers, tmp_path) as running:
        upload_id = await running.uploaded()
        jobs = [await running.submitted(upload_id, metadata={"lap": str(number)}) for number in range(5)]
        page = (await running.http.get("/v1/jobs", params={"q": "lap=1"})).json()
        assert page["data"] == []
        assert page["searched_to"] == jobs[3]["created_at"]
        assert await ids(running, q="lap=1") == [jobs[1]["id"]]
        assert (await running.http.get("/v1/jobs/counts", params={"q": "lap"})).json()["complete"] is False


async def test_a_tenant_finds_and_counts_its_own_jobs_and_a_rebuilt_view_finds_the_same(
    empty_servers: Servers, tmp_path: Path
) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival"))
    acme, rival = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival"))
    async with running_gateway(*empty_servers, tmp_path, auth=auth) as running:
        for headers in (acme, rival):
            upload_id = await running.uploaded(headers=headers, filename="secret.mp4")
            body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
            assert (await running.http.post("/v1/jobs", json=body, headers=headers)).status_code == 202
        mine = await ids(running, acme, q="secret")
        assert len(mine) == 1
        assert mine != await ids(running, rival, q="secret")
        assert (await running.http.get("/v1/jobs/counts", headers=acme)).json()["count"] == 1
        assert (await running.http.get("/v1/jobs/counts")).status_code == 401
    async with running_gateway(*empty_servers, tmp_path / "new", auth=auth) as running:
        assert await ids(running, acme, q="secret") == mine
