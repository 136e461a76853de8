"""The OpenAPI document of the gateway, held against the gateway: rules, answers, methods, keys; and hostile values."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from kit.auth.api_keys import AuthSettings
from tests.harness.openapi.generated import run_schemathesis
from tests.harness.openapi.hooks import PARAMETERS
from tests.harness.openapi.hostile import hostile_requests, requests_of, send
from tests.harness.openapi.methods import check_methods
from tests.harness.servers.embedded import free_port, wait_until_ready
from tests.harness.servers.gateway import code_of, keys_file, running_gateway, video
from tests.harness.servers.gateway_process import Servers, environment, process
from tests.harness.share import Share

#: One of so many hostile requests is sent, and all of them in a soak.
SHARE = 3
#: They answer when the worker has ended the session, and no worker runs here.
WAITING = ("/stop-training", "/reset")


@dataclass
class Gateway:
    """A gateway in a process, its document, and resources that it has."""

    url: str
    document: dict[str, Any]
    known: dict[str, str]


@pytest.fixture(scope="module")
def gateway(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        process(environment(servers, tmp_path_factory.mktemp("gateway"), port)),
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        wait_until_ready(port)
        clip = video()
        file = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": len(clip)}
        upload = client.post("/v1/uploads", json=file).json()
        assert httpx.put(upload["url"], content=clip, headers=upload["headers"]).is_success
        assert client.post(f"/v1/uploads/{upload['id']}/complete").json()["state"] == "completed"
        inputs = {"reference": upload["id"], "other": upload["id"]}
        job = client.post("/v1/jobs", json={"workload": "lap_compare", "inputs": inputs}).json()
        session = client.post("/v1/sessions", json={"workload": "live_splat"}).json()
        rule = client.post("/v1/rules", json={"name": "Matches", "workload": "badminton"}).json()
        document = client.get("/openapi.json").json()
        for path in WAITING:
            del document["paths"][path]
        known = {"upload_id": upload["id"], "job_id": job["id"], "session_id": session["id"], "name": "a.json"}
        known["rule_id"] = rule["id"]
        yield Gateway(url, document, known)


def test_hostile_values_are_refused_and_break_nothing(gateway: Gateway, seed: int, share: Share):
    accepted = 0
    for request in requests_of(gateway.document, gateway.known):
        accepted += send(gateway.url, request).status < 300
    assert accepted > 25, "requests that are refused anyway do not show what a value does"
    hostile = [one for one in hostile_requests(gateway.document, gateway.known, seed) if one.method != "HEAD"]
    assert len(hostile) > 2000
    for request in share.of(hostile, SHARE):
        status = send(gateway.url, request).status
        assert status < 500 or status == 501, (status, request)  # 501: this gateway is not configured for it


@pytest.mark.soak
def test_generated_requests_are_refused_by_stated_rules_only(
    gateway: Gateway, tmp_path: Path, seed: int, soak_runs: int, share: Share
):
    # A request with a header more than are declared is no wrong one; it takes these routes, whose pictures it can draw.
    settings = "".join(
        f'[[operations]]\ninclude-path = "{path}"\nchecks.negative_data_rejection.enabled = false\n'
        for path in ("/v1/sessions/{session_id}/frames", "/api/upload/photos")
    )
    # GET takes it for the name of an artifact in a folder, so that GET is allowed there too.
    settings += (
        '[[operations]]\ninclude-path = "/v1/jobs/{job_id}/artifacts/{name}/link"\n'
        "checks.allow_header_conformance.enabled = false\n"
    )
    examples = soak_runs // 2
    run_schemathesis(
        gateway.document, gateway.url, tmp_path, examples=examples, seed=seed, share=share, settings=settings
    )


@pytest.mark.soak
def test_parameters_that_fit_a_workloads_schema_are_accepted(
    gateway: Gateway, tmp_path: Path, seed: int, soak_runs: int, share: Share
):
    workloads = httpx.get(f"{gateway.url}/v1/workloads").json()["data"]
    document = copy.deepcopy(gateway.document)
    document["info"]["title"] = PARAMETERS
    paths = {path: {"post": document["paths"][path]["post"]} for path in ("/v1/jobs", "/v1/sessions")}
    for path, methods in paths.items():
        operation = methods["post"]
        choices = [
            {
                "type": "object",
                "properties": {"workload": {"const": one["name"]}, "params": _inlined(one["params_schema"])},
                "required": ["workload", "params"],
                "additionalProperties": False,
            }
            for one in workloads
            if (one["kind"] == "session") == (path == "/v1/sessions")
        ]
        assert choices
        operation["requestBody"]["content"]["application/json"]["schema"] = {"oneOf": choices}
        operation["parameters"] = []
    # A dry run stores nothing; sessions have none.
    only = {"in": "query", "required": True, "schema": {"const": True}}
    paths["/v1/jobs"]["post"]["parameters"] = [only | {"name": name} for name in ("dry_run", "partial")]
    document["paths"] = paths
    more = ("--mode", "positive")
    examples = soak_runs // 2
    run_schemathesis(
        document, gateway.url, tmp_path, examples=examples, seed=seed, share=share, more=more, each_value=True
    )


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON Schema without references."""
    definitions = schema.get("$defs", {})

    def of(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return of(definitions[value["$ref"].rpartition("/")[2]])
            return {key: of(inner) for key, inner in value.items() if key != "$defs"}
        return [of(inner) for inner in value] if isinstance(value, list) else value

    found: dict[str, Any] = of(schema)
    return found


def test_each_path_has_the_methods_of_the_document_and_no_other(gateway: Gateway):
    check_methods(gateway.document, gateway.url, gateway.known)


@pytest.mark.anyio
async def test_where_keys_are_needed_the_document_says_which_routes_need_one(servers: Servers, tmp_path: Path):
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme"))
    async with running_gateway(*servers, tmp_path, auth=auth) as running:
        document = (await running.http.get("/openapi.json")).json()
        secured = 0
        for request in requests_of(document, {}):
            operation = document["paths"][request.path][request.method.lower()]
            if {"RunToken": []} in operation.get("security", []):
                continue  # tests/contract/gateway/test_worker_ingest.py
            answer = await running.http.request(
                request.method, request.target, json=request.body, headers=request.headers
            )
            if "security" in operation:
                secured += 1
                assert answer.status_code == 401, request
                assert answer.headers["www-authenticate"] == "Bearer"
                assert request.method == "HEAD" or code_of(answer) == "unauthenticated"
                assert "WWW-Authenticate" in operation["responses"]["401"]["headers"]
            else:
                assert "401" not in operation["responses"], request
                assert answer.status_code != 401, request
        assert secured > 30
        assert set(document["components"]["securitySchemes"]) == {"HTTPBearer", "RunToken"}


def test_where_no_key_is_needed_the_document_asks_for_none(gateway: Gateway):
    asking = {
        path
        for path, methods in gateway.document["paths"].items()
        for operation in methods.values()
        if "security" in operation or "401" in operation["responses"]
    }
    assert asking == {"/v1/runs/{run_id}", "/v1/runs/{run_id}/events"}


def test_the_document_holds_only_keywords_of_json_schema(gateway: Gateway):
    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield key
                yield from keys(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from keys(inner)

    # What pydantic leaves of a constraint that it cannot state.
    wrong = {"ge", "gt", "le", "lt", "min_length", "max_length"}
    assert not wrong & set(keys(gateway.document))
    assert not wrong & set(keys(httpx.get(f"{gateway.url}/v1/workloads").json()))
