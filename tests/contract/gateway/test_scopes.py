"""Scopes of API keys over every route of gateway and notifier, as their OpenAPI documents state them."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from pydantic import SecretStr

from kit.auth.api_keys import AuthSettings
from kit.auth.principal import scopes_of
from kit.http.openapi import api_routes
from kit.settings import NatsSettings, S3Settings
from services.notifier.settings import WebhookSettings
from tests.harness.openapi.hostile import Request, requests_of
from tests.harness.servers.gateway import code_of, running_gateway
from tests.harness.streams.notifier import notifier

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
SCOPES: Final = ("read", "write", "operate")
#: Routes that need no key, or no scope of it.
PUBLIC: Final = {
    "/health", "/ready", "/metrics", "/asyncapi.json", "/v1/browser-session", "/v1/runs/{run_id}",
    "/v1/runs/{run_id}/events", "/v1/webhooks/keys", "/v1/webhooks/{webhook_id}/keys",
}  # fmt: skip
#: What keys with the scope ``read`` do not read: the resources of operators, and a secret.
NOT_READ: Final = ("/v1/audit", "/v1/dead-letter", "/v1/streams", "/v1/webhooks/default/secret")
#: They answer when the worker has ended the session, and no worker runs here.
WAITING: Final = ("/stop-training", "/reset")
#: Requests that store nothing, though they are no GET.
READING_POSTS: Final = {"/v1/tickets", "/v1/jobs/{job_id}/artifacts/{name}/link"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Write a key for each set of scopes, named after it."""
    sets = [names for count in (1, 2) for names in itertools.combinations(SCOPES, count)]
    entries = [
        {"id": "-".join(names), "tenant": "acme", "scopes": names, "sha256": hashlib.sha256(b"secret").hexdigest()}
        for names in sets
    ]
    (tmp_path / "keys.json").write_text(json.dumps(entries))
    return tmp_path / "keys.json"


@pytest.fixture
async def services(servers: Servers, tmp_path: Path, keys: Path) -> AsyncIterator[dict[str, Any]]:
    """Run both services; their clients and documents by name."""
    auth = AuthSettings(api_keys_file=keys)
    webhooks = WebhookSettings(secret_key=SecretStr("k" * 32))
    async with (
        running_gateway(*servers, tmp_path, auth=auth) as running,
        notifier(servers[0], auth, webhooks) as reader,
    ):
        documents = {
            "gateway": (await running.http.get("/openapi.json")).json(),
            "notifier": (await reader.http.get("/v1/webhooks/openapi.json")).json(),
        }
        clients = {"gateway": running.http, "notifier": reader.http}
        yield {"clients": clients, "documents": documents, "gateway": running.app}


def operations(document: dict[str, Any]) -> Iterator[tuple[Request, dict[str, Any]]]:
    """Yield each operation that has scopes, with a request for it."""
    for request in requests_of(document, {}):
        operation = document["paths"][request.path][request.method.lower()]
        if "x-scopes" in operation:
            yield request, operation


async def test_every_route_states_its_scopes(services: dict[str, Any]):
    for document in services["documents"].values():
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                scopes = operation.get("x-scopes", [])
                assert bool(scopes) != (path in PUBLIC), (method, path)
                assert set(scopes) <= set(SCOPES)
                reads = method in ("get", "head") or path in READING_POSTS
                if path not in PUBLIC and not path.startswith(NOT_READ):
                    assert ("read" in scopes) == reads, f"{method} {path}: read keys read all, and change nothing"
    for route in api_routes(services["gateway"]):
        if not route.include_in_schema:
            # Pages, their files and contracts; a job's pages have a ticket in their address.
            assert route.methods <= {"GET", "HEAD"}, route.path
            assert not scopes_of(route.dependant)


async def test_a_key_without_the_scope_is_refused_by_name_and_one_with_it_is_not(services: dict[str, Any]):
    count = 0
    for name, document in services["documents"].items():
        http: httpx.AsyncClient = services["clients"][name]
        for request, operation in operations(document):
            wanted = operation["x-scopes"]
            for scope in SCOPES:
                if scope in wanted and request.path in WAITING:
                    continue
                count += 1
                headers = request.headers | {"Authorization": f"Bearer {scope}.secret"}
                status, problem = await _send(http, request, headers)
                if scope in wanted:
                    # Some acts of operators are refused for what they concern, which names no scope.
                    assert (status not in (401, 403)) or "required_scopes" not in problem, (request, problem)
                    continue
                assert status == 403, (scope, request, problem)
                if request.method != "HEAD":
                    assert (problem["code"], problem["required_scopes"]) == ("forbidden", wanted), request
                    assert all(repr(needed) in problem["detail"] for needed in wanted)
    assert count > 250


async def test_the_refusal_is_a_problem_with_the_code_of_all_refusals(services: dict[str, Any]):
    answer = await services["clients"]["gateway"].post(
        "/v1/jobs", json={"workload": "lap_compare"}, headers={"Authorization": "Bearer read-operate.secret"}
    )
    assert (answer.status_code, code_of(answer)) == (403, "forbidden")
    assert answer.json()["detail"] == "This API key has no scope 'write'."


async def _send(http: httpx.AsyncClient, request: Request, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Send a request, and read no more of an answer than tells whether it was refused."""
    async with http.stream(request.method, request.target, json=request.body, headers=headers) as response:
        if response.headers.get("content-type") != "application/problem+json":
            return response.status_code, {}
        text = await response.aread()
        return response.status_code, json.loads(text) if text else {}
